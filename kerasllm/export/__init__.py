"""From a trained model to a SavedModel that TensorFlow Serving runs: raw strings in, named answers out."""

from kerasllm.export.checks import check_export
from kerasllm.export.examination import Examination, examine
from kerasllm.export.golden import GOLDEN_TEXTS, Call
from kerasllm.export.savedmodel import ExportOptions, arrays_of, bytes_of, write_classifier, write_export
from kerasllm.export.signatures import ClassifierSignatures

__all__ = [
    "GOLDEN_TEXTS",
    "Call",
    "ClassifierSignatures",
    "Examination",
    "ExportOptions",
    "arrays_of",
    "bytes_of",
    "check_export",
    "examine",
    "write_classifier",
    "write_export",
]
