"""Prepared corpora and labelled tables as batches for training and evaluation."""

from kerasllm.data.corpus import Corpus, Split, open_corpus
from kerasllm.data.labelled import LabelledTexts, labelled_batches, labelled_steps_per_epoch, read_labelled
from kerasllm.data.pipelines import pretraining_batches, steps_per_epoch
from kerasllm.data.prepare import prepare_corpus

__all__ = [
    "Corpus",
    "LabelledTexts",
    "Split",
    "labelled_batches",
    "labelled_steps_per_epoch",
    "open_corpus",
    "prepare_corpus",
    "pretraining_batches",
    "read_labelled",
    "steps_per_epoch",
]
