"""Is tokenization one function, wherever it runs, and does it say what is wrong with a vocabulary?"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from kerasllm import text
from kerasllm.errors import DataError

VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "un",
    "##happy",
    "happy",
    "我",
    "们",
    ",",
    "strasse",
    "full",
]
DIFFICULT = [
    "The company's profit rose 5 %.",
    "公司利润增长，full 股价！",
    "emoji 😀 and a family 👩‍👩‍👧 \U0001f1e8\U0001f1f3",
    "control \x01\x07\t\x1b characters \u200b\ufeff\u202e",
    "x" * 200,
    "",
    "null\0byte\0",
    "line one\nline two\r\n",
    "Ünïcödé ＦＵＬＬ－ｗｉｄｔｈ Straße İstanbul",
    "[MASK] [CLS] </s> <mask> ▁",
]


def hand_made(lowercase: bool = True) -> text.WordPieceTokenizer:
    return text.WordPieceTokenizer("\n".join(VOCABULARY).encode(), lowercase)


def ids_of(tokenizer: text.Tokenizer, sentence: str) -> list[int]:
    return tokenizer.tokenize(tf.constant([sentence])).to_list()[0]


def test_the_longest_pieces_of_the_vocabulary_are_found():
    assert ids_of(hand_made(), "unhappy, happy") == [5, 6, 10, 7]


def test_chinese_characters_stand_one_by_one():
    assert ids_of(hand_made(), "我们") == [8, 9]


def test_case_width_and_eszett_are_folded_only_when_lowercase_is_set():
    assert ids_of(hand_made(), "HAPPY， Straße ｆｕｌｌ") == [7, 10, 11, 12]
    assert ids_of(hand_made(lowercase=False), "HAPPY happy") == [1, 7]


def test_a_special_token_typed_in_a_text_is_not_one():
    assert 4 not in ids_of(hand_made(), "[MASK]")


def test_no_text_gives_a_control_piece_of_sentencepiece(sentencepiece: text.SentencePieceTokenizer):
    ids = ids_of(sentencepiece, "<mask> <s> </s> <pad>")
    assert not set(ids) & set(sentencepiece.special.ids)


class Service(tf.Module):
    def __init__(self, tokenizer: text.Tokenizer) -> None:
        super().__init__()
        self.tokenizer_assets = tokenizer.assets
        self._pack = lambda texts: text.pack_texts(tokenizer, texts, None, max_length=512)["token_ids"]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def serve(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"token_ids": self._pack(texts)}


def test_ids_are_equal_eagerly_in_tf_data_and_in_a_served_graph(tokenizer: text.Tokenizer, tmp_path):
    texts = tf.constant(DIFFICULT)
    eager = text.pack_texts(tokenizer, texts, None, max_length=512)["token_ids"].numpy()
    assert eager.shape[1] > 20

    def pack(batch: tf.Tensor) -> tf.Tensor:
        return text.pack_texts(tokenizer, batch, None, max_length=512)["token_ids"]

    dataset = tf.data.Dataset.from_tensor_slices(DIFFICULT).batch(len(DIFFICULT)).map(pack, tf.data.AUTOTUNE)
    np.testing.assert_array_equal(next(iter(dataset)).numpy(), eager)

    service = Service(tokenizer)
    tf.saved_model.save(service, str(tmp_path), signatures=service.serve)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:  # as TensorFlow Serving loads it
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path))
        signature = loaded.signature_def["serving_default"]
        feed = {signature.inputs["texts"].name: np.array([sentence.encode() for sentence in DIFFICULT], object)}
        served = session.run(signature.outputs["token_ids"].name, feed)
    np.testing.assert_array_equal(served, eager)


def test_one_text_at_a_time_gives_the_ids_of_a_batch(tokenizer: text.Tokenizer):
    batch = tokenizer.tokenize(tf.constant(DIFFICULT)).to_list()
    assert [ids_of(tokenizer, sentence) for sentence in DIFFICULT] == batch


def test_sentencepiece_gives_every_text_back(sentencepiece: text.SentencePieceTokenizer):
    texts = [sentence for sentence in DIFFICULT if "▁" not in sentence]  # the one character that is lost
    back = sentencepiece.detokenize(sentencepiece.tokenize(tf.constant(texts))).numpy()
    assert [sentence.decode() for sentence in back] == texts


def test_bytes_give_every_text_back(byte: text.ByteTokenizer):
    texts = [*DIFFICULT, "\ufeffa mark first", "".join(map(chr, range(128)))]
    ids = byte.tokenize(tf.constant(texts))
    assert ids.row_lengths().numpy().tolist() == [len(sentence.encode()) for sentence in texts]
    assert [sentence.decode() for sentence in byte.detokenize(ids).numpy()] == texts
    assert byte.detokenize(ids.to_tensor()).numpy().tolist() == [sentence.encode() for sentence in texts]  # with <pad>


def test_a_byte_stands_five_places_behind_its_number_and_half_a_character_is_told(byte: text.ByteTokenizer):
    assert ids_of(byte, "A\n我") == [70, 15, 235, 141, 150]  # 65, 10, then E6 88 91
    assert byte.detokenize(tf.constant([[70, 235, 141]])).numpy()[0].decode() == "A\N{REPLACEMENT CHARACTER}"
    assert byte.tokenize(tf.constant([], tf.string)).to_list() == []
    assert [byte.words[number] for number in (70, 15, 2)] == ["A", "<0x0A>", "<bos>"]
    starts = byte.starts_word[[70, 15, 235, 141, 150]].tolist()
    assert starts == [False, True, True, False, False]


def test_wordpiece_detokenizes_with_pieces_joined_and_without_spaces_in_chinese():
    assert hand_made().detokenize(tf.constant([[5, 6, 10, 7, 8, 9]])).numpy()[0].decode() == "unhappy , happy我们"


def test_pieces_that_continue_a_word_are_told_apart(sentencepiece: text.SentencePieceTokenizer):
    assert hand_made().starts_word.tolist() == [word != "##happy" for word in VOCABULARY]
    table = dict(zip(sentencepiece.words, sentencepiece.starts_word.tolist(), strict=True))
    assert table["▁s"]
    assert table["公"]
    assert not table["a"]
    assert not table["<0x41>"]


def test_a_saved_tokenizer_comes_back_with_its_fingerprint(tokenizer: text.Tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    loaded = text.load_tokenizer(tmp_path)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.special == tokenizer.special
    assert loaded.words == tokenizer.words


def test_the_fingerprint_changes_with_the_settings():
    assert hand_made(lowercase=True).fingerprint != hand_made(lowercase=False).fingerprint


def test_special_tokens_come_first_and_sep_is_eos(tokenizer: text.Tokenizer):
    special = tokenizer.special
    assert (special.pad, special.unk) == (0, 1)
    assert sorted(special.ids) == [0, 1, 2, 3, 4]
    assert (special.bos, special.eos) == (special.cls, special.sep)


def test_hugging_face_vocabularies_are_read_with_special_tokens_found_by_name(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(["[PAD]", "[unused0]", "happy", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]) + "\n")
    special = text.wordpiece_from_file(path).special
    assert (special.pad, special.unk, special.cls, special.sep, special.mask) == (0, 3, 4, 5, 6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n", r"no line \[MASK\]"),
        (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\na\n", "'a' stands on more than one line"),
        (b"[PAD]\n\xff", "not UTF-8 at byte 6"),
        (b"", "empty"),
    ],
)
def test_a_bad_wordpiece_vocabulary_is_refused(content: bytes, message: str, tmp_path):
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        text.wordpiece_from_file(tmp_path / "vocab.txt")


def test_a_file_that_is_no_sentencepiece_model_is_refused(tmp_path):
    (tmp_path / "x.model").write_bytes(b"hello")
    with pytest.raises(DataError, match="not a SentencePiece model"):
        text.sentencepiece_from_file(tmp_path / "x.model")


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot read the vocabulary"):
        text.load_tokenizer(tmp_path)


def test_too_little_text_for_a_sentencepiece_vocabulary_is_refused():
    with pytest.raises(DataError, match=r"lower tokenizer\.vocab_size"):
        text.train_sentencepiece(["too short"], 8000)


def test_no_words_for_a_wordpiece_vocabulary_is_refused():
    with pytest.raises(DataError, match="no words"):
        text.train_wordpiece([" ", "\x00"], 300)


def test_another_process_learns_the_same_vocabulary(wordpiece: text.WordPieceTokenizer):
    program = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from conftest import LINES; "
        "from kerasllm import text; print(text.train_wordpiece(LINES, 300).fingerprint)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split()[-1] == wordpiece.fingerprint
