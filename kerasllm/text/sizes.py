"""How much text does each token write? Bytes and characters, so that losses of other vocabularies can be compared."""

# V vocabulary

import numpy as np

from kerasllm.text.byte_tokenizer import ByteTokenizer
from kerasllm.text.interface import Tokenizer
from kerasllm.text.tokenizers import SentencePieceTokenizer, spaced


def text_sizes(tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """Bytes [V] and characters [V] int64 of each token in the middle of a text; special ones write nothing.

    A byte is a character where it begins one, so that the bytes of one character count once. Of WordPiece it is the
    text that comes back: folded, with one space between words.
    """
    written = [_written(tokenizer, word) for word in tokenizer.words]
    for number in tokenizer.special.ids:
        written[number] = b""
    num_bytes = [len(one) for one in written]
    num_characters = [sum(byte & 0xC0 != 0x80 for byte in one) for one in written]
    return np.array(num_bytes, np.int64), np.array(num_characters, np.int64)


def _written(tokenizer: Tokenizer, word: str) -> bytes:
    if isinstance(tokenizer, ByteTokenizer | SentencePieceTokenizer):
        if len(word) == 6 and word.startswith("<0x"):
            return bytes([int(word[3:5], 16)])
        return word.replace("\N{LOWER ONE EIGHTH BLOCK}", " ").encode()
    return spaced(word).encode()
