"""Where does a vocabulary come from? WordPiece and SentencePiece trained on a stream of texts."""

import collections
import io
import itertools
import unicodedata
from collections.abc import Iterable, Iterator

import sentencepiece
import tensorflow as tf
import tensorflow_text as tf_text
import tokenizers

from kerasllm.errors import DataError
from kerasllm.text.tokenizers import MASK_PIECE, SentencePieceTokenizer, WordPieceTokenizer, is_cjk

SPECIAL_WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def train_wordpiece(texts: Iterable[str], vocab_size: int, lowercase: bool = True) -> WordPieceTokenizer:
    """Learns a WordPiece vocabulary of at most `vocab_size` tokens; [PAD] [UNK] [CLS] [SEP] [MASK] come first.

    The texts are normalised as the in-graph tokenizer will do it; the `tokenizers` package does not get to choose. Nor
    does it get to order the letters: it would number them by the order of a hash table, other in every process, and
    break ties by these numbers. The normalised texts stay in memory while it learns.

    Raises:
      DataError: there is no word in the texts.
    """
    learner = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    learner.normalizer = tokenizers.normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=False
    )
    learner.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    lines = list(_normalised(texts, lowercase))
    letters = _alphabet(lines, limit=vocab_size // 2)
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[*SPECIAL_WORDS, *(f"##{letter}" for letter in letters if _continues_words(letter))],
        initial_alphabet=letters,
        limit_alphabet=len(letters),
        show_progress=False,
    )
    learner.train_from_iterator(lines, trainer)
    words = [word for word, _ in sorted(learner.get_vocab().items(), key=lambda item: item[1])]
    if len(words) <= len(SPECIAL_WORDS):
        raise DataError("The sample for the vocabulary has no words. Give more text.")
    return WordPieceTokenizer("".join(word + "\n" for word in words).encode(), lowercase)


def train_sentencepiece(texts: Iterable[str], vocab_size: int) -> SentencePieceTokenizer:
    """Learns byte-pair SentencePiece pieces with byte fallback; no text is normalised, so that all of it comes back.

    Raises:
      DataError: the texts are too few for `vocab_size` pieces.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size,
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            allow_whitespace_only_pieces=True,
            pad_id=0,
            unk_id=1,
            bos_id=2,
            eos_id=3,
            control_symbols=[MASK_PIECE],
            max_sentence_length=100_000,  # bytes; longer ones would be left out
            num_threads=1,  # the same pieces on every machine
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"The sample is too small for a SentencePiece vocabulary of {vocab_size} ({reason}). "
            "Give more text or lower tokenizer.vocab_size."
        ) from None
    return SentencePieceTokenizer(model.getvalue())


def _normalised(texts: Iterable[str], lowercase: bool) -> Iterator[str]:
    """What FastBertTokenizer does to characters before it looks for words."""
    stream = iter(texts)
    while batch := list(itertools.islice(stream, 4096)):
        folded = tf.constant(batch)
        if lowercase:
            folded = tf_text.normalize_utf8(tf_text.case_fold_utf8(folded), "NFD")
            folded = tf.strings.regex_replace(folded, r"\p{Mn}", "")
        for text in tf.strings.regex_replace(folded, r"\p{Cc}|\p{Cf}", " ").numpy():
            yield text.decode("utf-8", errors="replace")


def _alphabet(lines: list[str], limit: int) -> list[str]:
    """The most frequent characters: thousands of ideographs must not crowd out all pieces."""
    counts: collections.Counter[str] = collections.Counter()
    for line in lines:
        counts.update(line)
    frequent = sorted(counts, key=lambda character: (-counts[character], character))
    return sorted([character for character in frequent if not character.isspace()][:limit])


def _continues_words(character: str) -> bool:
    is_punctuation = unicodedata.category(character)[0] == "P" or (character.isascii() and not character.isalnum())
    return not is_punctuation and not is_cjk(character)
