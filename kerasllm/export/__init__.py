"""From a trained model to a SavedModel that TensorFlow Serving runs: raw strings in, named answers out."""

from kerasllm.export.checks import Call, check_export
from kerasllm.export.savedmodel import arrays_of, bytes_of, write_classifier, write_export
from kerasllm.export.signatures import ClassifierSignatures

__all__ = [
    "Call",
    "ClassifierSignatures",
    "arrays_of",
    "bytes_of",
    "check_export",
    "write_classifier",
    "write_export",
]
