"""Text in and out of token ids, in-graph: the same operations in preparation, training and serving."""

from kerasllm.text.byte_tokenizer import ByteTokenizer
from kerasllm.text.interface import SpecialTokens, Tokenizer
from kerasllm.text.masking import Masker
from kerasllm.text.packing import pack_pairs, pack_texts
from kerasllm.text.sizes import text_sizes
from kerasllm.text.tokenizers import (
    SentencePieceTokenizer,
    WordPieceTokenizer,
    load_tokenizer,
    sentencepiece_from_file,
    wordpiece_from_file,
)
from kerasllm.text.vocab import train_sentencepiece, train_wordpiece

__all__ = [
    "ByteTokenizer",
    "Masker",
    "SentencePieceTokenizer",
    "SpecialTokens",
    "Tokenizer",
    "WordPieceTokenizer",
    "load_tokenizer",
    "pack_pairs",
    "pack_texts",
    "sentencepiece_from_file",
    "text_sizes",
    "train_sentencepiece",
    "train_wordpiece",
    "wordpiece_from_file",
]
