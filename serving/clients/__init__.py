"""Asking a model server without TensorFlow."""

from serving.clients.client import PredictClient, VersionStatus
from serving.clients.generation import Continuation, Sampling, generate, stream

__all__ = ["Continuation", "PredictClient", "Sampling", "VersionStatus", "generate", "stream"]
