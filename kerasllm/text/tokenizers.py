"""How does a string become token ids, and ids a string? WordPiece and SentencePiece in the graph, read from files."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text
import yaml

from kerasllm.errors import DataError
from kerasllm.text.byte_tokenizer import ByteTokenizer
from kerasllm.text.interface import FORMAT_VERSION, SETTINGS_FILE, SpecialTokens, Tokenizer

WORDPIECE_FILE = "vocab.txt"
SENTENCEPIECE_FILE = "sentencepiece.model"
MASK_PIECE = "<mask>"  # a control symbol of the SentencePiece models that we train


class WordPieceTokenizer(Tokenizer):
    """BERT's WordPiece: words, then the longest pieces of the vocabulary; Chinese characters stand one by one.

    Words of more than 100 bytes become [UNK].

    Args:
      vocabulary: content of a vocab.txt, one token a line, the line number is the id.
      lowercase: fold case (NFKC) and remove accents, as BERT uncased does.

    Raises:
      DataError: a special token is missing, or the same token stands twice.
    """

    kind = "wordpiece"
    _file_name = WORDPIECE_FILE

    def __init__(self, vocabulary: bytes, lowercase: bool = True, source: str = WORDPIECE_FILE) -> None:
        self.vocabulary, self.lowercase = vocabulary, lowercase
        self.words = _decode(vocabulary, source).removesuffix("\n").replace("\r\n", "\n").split("\n")
        index = {word: i for i, word in enumerate(self.words)}
        missing = [word for word in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if word not in index]
        if missing:
            raise DataError(f"{source}: no line {', '.join(missing)}. Give a WordPiece vocabulary as BERT's vocab.txt.")
        if len(index) != len(self.words):
            twice = next(word for i, word in enumerate(self.words) if index[word] != i)
            raise DataError(f"{source}: {twice!r} stands on more than one line. Each token must be there once.")
        self.special = SpecialTokens(*(index[f"[{name}]"] for name in ("PAD", "UNK", "CLS", "SEP", "MASK")))
        self.starts_word = np.array([not word.startswith("##") for word in self.words])
        self._tokenizer = tf_text.FastBertTokenizer(
            self.words, token_out_type=tf.int32, lower_case_nfd_strip_accents=lowercase
        )
        self.assets = [self._tokenizer]

    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """See Tokenizer."""
        return self._tokenizer.tokenize(texts)

    def detokenize(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """Joins words by spaces, pieces and Chinese characters by nothing: what was folded away stays away."""
        pieces = tf.gather(tf.constant([spaced(word) for word in self.words]), ids)
        return tf.strings.strip(tf.strings.reduce_join(pieces, axis=-1))


class SentencePieceTokenizer(Tokenizer):
    """SentencePiece with byte fallback: every UTF-8 text comes back exactly.

    Lost: a literal U+2581 becomes a space; invalid UTF-8 becomes U+FFFD.

    Args:
      vocabulary: content of a .model file with pad, unk, bos and eos pieces.

    Raises:
      DataError: the bytes are no SentencePiece model, or a control piece is missing.
    """

    kind = "sentencepiece"
    _file_name = SENTENCEPIECE_FILE

    def __init__(self, vocabulary: bytes, source: str = SENTENCEPIECE_FILE) -> None:
        import sentencepiece  # only to list the pieces; ids always come from the graph

        self.vocabulary = vocabulary
        model = sentencepiece.SentencePieceProcessor()
        try:
            model.LoadFromSerializedProto(vocabulary)
        except (RuntimeError, OSError) as error:
            raise DataError(f"{source}: not a SentencePiece model ({error}). Give a .model file.") from None
        self.words = [model.IdToPiece(i) for i in range(model.GetPieceSize())]
        ids = {"pad": model.pad_id(), "unk": model.unk_id(), "bos": model.bos_id(), "eos": model.eos_id()}
        missing = [name for name, i in ids.items() if i < 0]
        if missing:
            raise DataError(
                f"{source}: no {', '.join(missing)} piece. Train it with --pad_id, --unk_id, --bos_id and --eos_id."
            )
        mask = self.words.index(MASK_PIECE) if MASK_PIECE in self.words else -1
        self.special = SpecialTokens(ids["pad"], ids["unk"], ids["bos"], ids["eos"], mask)
        self.starts_word = np.array(
            [not model.IsByte(i) and _begins_word(word) for i, word in enumerate(self.words)], bool
        )
        self._tokenizer = tf_text.SentencepieceTokenizer(model=vocabulary, out_type=tf.int32)
        self.assets = [self._tokenizer]

    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """See Tokenizer."""
        return self._tokenizer.tokenize(texts)

    def detokenize(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """See Tokenizer; control pieces vanish."""
        ids = ids if isinstance(ids, tf.RaggedTensor) else tf.RaggedTensor.from_tensor(ids)
        return self._tokenizer.detokenize(ids)


def load_tokenizer(folder: str | os.PathLike[str]) -> Tokenizer:
    """Reads what `Tokenizer.save` wrote.

    Raises:
      DataError: a file is missing, or of a format version that this code does not know.
    """
    path = Path(folder) / SETTINGS_FILE
    try:
        settings = yaml.safe_load(_read(path)) or {}
        version, kind = settings["format_version"], settings["kind"]
    except (yaml.YAMLError, KeyError, TypeError):
        raise DataError(f"{path}: not the settings of a tokenizer. Run apps.pretrain.prepare again.") from None
    if version != FORMAT_VERSION:
        raise DataError(
            f"{path}: format version {version}, this program reads {FORMAT_VERSION}. Prepare the data again."
        )
    if kind == WordPieceTokenizer.kind:
        return wordpiece_from_file(path.parent / WORDPIECE_FILE, lowercase=settings.get("lowercase", True))
    if kind == SentencePieceTokenizer.kind:
        return sentencepiece_from_file(path.parent / SENTENCEPIECE_FILE)
    if kind == ByteTokenizer.kind:
        return ByteTokenizer()
    raise DataError(f"{path}: kind {kind!r} is none of wordpiece, sentencepiece and byte.")


def wordpiece_from_file(path: str | os.PathLike[str], lowercase: bool = True) -> WordPieceTokenizer:
    """A tokenizer from a vocab.txt, ours or Hugging Face's."""
    return WordPieceTokenizer(_read(Path(path)), lowercase, source=str(path))


def sentencepiece_from_file(path: str | os.PathLike[str]) -> SentencePieceTokenizer:
    """A tokenizer from a SentencePiece .model file."""
    return SentencePieceTokenizer(_read(Path(path)), source=str(path))


def is_cjk(character: str) -> bool:
    """Is this one of the ideographs that BERT sets apart with spaces?"""
    code = ord(character)
    return (
        0x4E00 <= code <= 0x9FFF
        or 0x3400 <= code <= 0x4DBF
        or 0xF900 <= code <= 0xFAFF
        or 0x20000 <= code <= 0x2CEAF
        or 0x2F800 <= code <= 0x2FA1F
    )


def spaced(word: str) -> str:
    """What a WordPiece token writes behind others: a space before words, none before pieces and Chinese characters."""
    if word.startswith("##"):
        return word[2:]
    return word if len(word) == 1 and is_cjk(word) else " " + word


def _begins_word(piece: str) -> bool:
    """In scripts without spaces each ideograph counts as a word, and so does punctuation."""
    return not piece or is_cjk(piece[0]) or unicodedata.category(piece[0])[0] not in "LN"


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot read the vocabulary ({error.strerror}).") from None
    if not content:
        raise DataError(f"{path}: the file is empty. Copy or prepare it again.")
    return content


def _decode(content: bytes, source: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: not UTF-8 at byte {error.start}. Save the vocabulary as UTF-8.") from None
