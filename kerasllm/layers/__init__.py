"""Layers of the transformer; every one is a function of its inputs, its weights and a dropout seed."""

from kerasllm.layers.activations import activate
from kerasllm.layers.attention import SelfAttention, attention_penalty
from kerasllm.layers.dropout import draw_seed, drop
from kerasllm.layers.embeddings import TextEmbedding
from kerasllm.layers.heads import (
    ClassificationHead,
    MaskedLMHead,
    NextSentenceHead,
    Pooler,
    WordMatchHead,
    tied_logits,
)
from kerasllm.layers.normalization import LayerNorm, RMSNorm, make_norm
from kerasllm.layers.projection import Projection
from kerasllm.layers.rows import TokenRows, token_rows
from kerasllm.layers.transformer import TransformerBlock

__all__ = [
    "ClassificationHead",
    "LayerNorm",
    "MaskedLMHead",
    "NextSentenceHead",
    "Pooler",
    "Projection",
    "RMSNorm",
    "SelfAttention",
    "TextEmbedding",
    "TokenRows",
    "TransformerBlock",
    "WordMatchHead",
    "activate",
    "attention_penalty",
    "draw_seed",
    "drop",
    "make_norm",
    "tied_logits",
    "token_rows",
]
