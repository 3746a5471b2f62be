"""Asking a model server without TensorFlow."""

from serving.clients.client import PredictClient, VersionStatus
from serving.clients.decoding import Choice, beam_search, choose, generate_without
from serving.clients.generation import Continuation, Sampling, generate, stream

__all__ = [
    "Choice",
    "Continuation",
    "PredictClient",
    "Sampling",
    "VersionStatus",
    "beam_search",
    "choose",
    "generate",
    "generate_without",
    "stream",
]
