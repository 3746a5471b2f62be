"""Prepared corpora and labelled tables as batches for training and evaluation."""

from kerasllm.data.corpus import Corpus, Split, open_corpus
from kerasllm.data.labelled import labelled_batches, labelled_steps_per_epoch
from kerasllm.data.pipelines import pretraining_batches, steps_per_epoch
from kerasllm.data.prepare import prepare_corpus
from kerasllm.data.splits import drop_shared, normal_form, split_by_text, text_key
from kerasllm.data.tables import LabelledTexts, read_columns, read_labelled, read_texts

__all__ = [
    "Corpus",
    "LabelledTexts",
    "Split",
    "drop_shared",
    "labelled_batches",
    "labelled_steps_per_epoch",
    "normal_form",
    "open_corpus",
    "prepare_corpus",
    "pretraining_batches",
    "read_columns",
    "read_labelled",
    "read_texts",
    "split_by_text",
    "steps_per_epoch",
    "text_key",
]
