"""Retrieval: embeddings, BM25, the reply index that a SavedModel holds, and hard negatives to train them with."""

from kerasllm.retrieval.encoding import embed_texts, pair_scorer, score_pairs, text_encoder
from kerasllm.retrieval.index import ReplyIndex
from kerasllm.retrieval.lexical import LexicalIndex
from kerasllm.retrieval.mining import hardest, join_negatives, mine_by_encoder, mine_by_words
from kerasllm.retrieval.tuning import tune, untuned

__all__ = [
    "LexicalIndex",
    "ReplyIndex",
    "embed_texts",
    "hardest",
    "join_negatives",
    "mine_by_encoder",
    "mine_by_words",
    "pair_scorer",
    "score_pairs",
    "text_encoder",
    "tune",
    "untuned",
]
