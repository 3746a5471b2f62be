"""Asking a model server without TensorFlow."""

from serving.clients.client import PredictClient, VersionStatus

__all__ = ["PredictClient", "VersionStatus"]
