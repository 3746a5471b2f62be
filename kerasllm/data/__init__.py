"""Prepared corpora and labelled tables as batches for training and evaluation."""

from kerasllm.data.corpus import Corpus, Split, open_corpus
from kerasllm.data.labelled import labelled_batches, labelled_steps_per_epoch
from kerasllm.data.pipelines import pretraining_batches, steps_per_epoch
from kerasllm.data.prepare import prepare_corpus
from kerasllm.data.tables import LabelledTexts, read_columns, read_labelled, read_texts

__all__ = [
    "Corpus",
    "LabelledTexts",
    "Split",
    "labelled_batches",
    "labelled_steps_per_epoch",
    "open_corpus",
    "prepare_corpus",
    "pretraining_batches",
    "read_columns",
    "read_labelled",
    "read_texts",
    "steps_per_epoch",
]
