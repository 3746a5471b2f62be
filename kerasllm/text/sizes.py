"""What does each token write? Its bytes, and how many, so that losses of other vocabularies can be compared."""

# V vocabulary

import re

import numpy as np

from kerasllm.text.byte_tokenizer import ByteTokenizer
from kerasllm.text.interface import Tokenizer
from kerasllm.text.tokenizers import SentencePieceTokenizer, spaced

BYTE_PIECE = re.compile("<0x([0-9A-F]{2})>")


def text_sizes(tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """Bytes [V] and characters [V] int64 of each token in the middle of a text; special ones write nothing.

    A byte is a character where it begins one, so that the bytes of one character count once. Of WordPiece it is the
    text that comes back: folded, with one space between words.
    """
    pieces = written(tokenizer)
    num_bytes = [len(one) for one in pieces]
    num_characters = [sum(byte & 0xC0 != 0x80 for byte in one) for one in pieces]
    return np.array(num_bytes, np.int64), np.array(num_characters, np.int64)


def written(tokenizer: Tokenizer) -> list[bytes]:
    """What each of the V tokens adds to a text; nothing for special ones."""
    special = set(tokenizer.special.ids)
    as_bytes = _piece_bytes if isinstance(tokenizer, ByteTokenizer | SentencePieceTokenizer) else _word_bytes
    return [b"" if number in special else as_bytes(word) for number, word in enumerate(tokenizer.words)]


def _piece_bytes(piece: str) -> bytes:
    is_byte = BYTE_PIECE.fullmatch(piece)
    return bytes([int(is_byte[1], 16)]) if is_byte else piece.replace("\N{LOWER ONE EIGHTH BLOCK}", " ").encode()


def _word_bytes(word: str) -> bytes:
    return spaced(word).encode()
