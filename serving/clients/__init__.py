"""Asking a model server without TensorFlow."""

from serving.clients.assistant import Reply, reply
from serving.clients.channel import Retries, Tls
from serving.clients.client import PredictClient, VersionStatus
from serving.clients.generation import Continuation, Sampling, generate, stream, stream_by_calls
from serving.clients.recommendation import Recommended, recommend, score_items

__all__ = [
    "Continuation",
    "PredictClient",
    "Recommended",
    "Reply",
    "Retries",
    "Sampling",
    "Tls",
    "VersionStatus",
    "generate",
    "recommend",
    "reply",
    "score_items",
    "stream",
    "stream_by_calls",
]
