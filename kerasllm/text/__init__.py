"""Text in and out of token ids, in-graph: the same operations in preparation, training and serving."""

from kerasllm.text.masking import Masker
from kerasllm.text.packing import pack_pairs, pack_texts
from kerasllm.text.tokenizers import (
    SentencePieceTokenizer,
    SpecialTokens,
    Tokenizer,
    WordPieceTokenizer,
    load_tokenizer,
    sentencepiece_from_file,
    wordpiece_from_file,
)
from kerasllm.text.vocab import train_sentencepiece, train_wordpiece

__all__ = [
    "Masker",
    "SentencePieceTokenizer",
    "SpecialTokens",
    "Tokenizer",
    "WordPieceTokenizer",
    "load_tokenizer",
    "pack_pairs",
    "pack_texts",
    "sentencepiece_from_file",
    "train_sentencepiece",
    "train_wordpiece",
    "wordpiece_from_file",
]
