"""Asking a model server without TensorFlow."""

from serving.clients.client import PredictClient, VersionStatus
from serving.clients.generation import Continuation, Sampling, generate, stream, stream_by_calls

__all__ = ["Continuation", "PredictClient", "Sampling", "VersionStatus", "generate", "stream", "stream_by_calls"]
