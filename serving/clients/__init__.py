"""Asking a model server without TensorFlow."""

from serving.clients.assistant import Reply, WrittenReply, generate_reply, reply
from serving.clients.channel import Retries, Tls
from serving.clients.client import PredictClient, VersionStatus
from serving.clients.decoding import Choice, beam_search, choose, generate_without
from serving.clients.generation import Continuation, Sampling, generate, stream, stream_by_calls
from serving.clients.recommendation import Recommended, recommend, score_items

__all__ = [
    "Choice",
    "Continuation",
    "PredictClient",
    "Recommended",
    "Reply",
    "Retries",
    "Sampling",
    "Tls",
    "VersionStatus",
    "WrittenReply",
    "beam_search",
    "choose",
    "generate",
    "generate_reply",
    "generate_without",
    "recommend",
    "reply",
    "score_items",
    "stream",
    "stream_by_calls",
]
