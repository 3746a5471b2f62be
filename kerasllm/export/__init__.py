"""From a trained model to a SavedModel that TensorFlow Serving runs: raw strings in, named answers out."""

from kerasllm.export.checks import Call, check_export
from kerasllm.export.savedmodel import write_classifier
from kerasllm.export.signatures import ClassifierSignatures

__all__ = ["Call", "ClassifierSignatures", "check_export", "write_classifier"]
