"""Prepared corpora and labelled tables as batches for training and evaluation."""

from kerasllm.data.checks import Report, check_table
from kerasllm.data.corpus import Corpus, Split, open_corpus
from kerasllm.data.dialogues import Dialogue, Turn, read_dialogues
from kerasllm.data.labelled import labelled_batches, lengths_of, pack
from kerasllm.data.mixed import Tables, mixed_batches, mixed_steps_per_epoch, read_tables
from kerasllm.data.order import batches_per_epoch
from kerasllm.data.pairs import (
    QueryPassages,
    join_pairs,
    matching_batches,
    reranking_batches,
)
from kerasllm.data.pipelines import pretraining_batches, steps_per_epoch
from kerasllm.data.prepare import prepare_corpus
from kerasllm.data.replies import (
    LearnedReplies,
    learned_replies,
    replies_after,
    reply_batches,
    reply_steps_per_epoch,
)
from kerasllm.data.splits import drop_shared, normal_form, split_by_text, text_key
from kerasllm.data.tables import NO_LABEL, OUT_OF_SCOPE, LabelledTexts, read_columns, read_labelled, read_texts

__all__ = [
    "NO_LABEL",
    "OUT_OF_SCOPE",
    "Corpus",
    "Dialogue",
    "LabelledTexts",
    "LearnedReplies",
    "QueryPassages",
    "Report",
    "Split",
    "Tables",
    "Turn",
    "batches_per_epoch",
    "check_table",
    "drop_shared",
    "join_pairs",
    "labelled_batches",
    "normal_form",
    "learned_replies",
    "lengths_of",
    "matching_batches",
    "mixed_batches",
    "mixed_steps_per_epoch",
    "open_corpus",
    "pack",
    "prepare_corpus",
    "pretraining_batches",
    "read_columns",
    "read_dialogues",
    "read_labelled",
    "read_tables",
    "read_texts",
    "replies_after",
    "reply_batches",
    "reply_steps_per_epoch",
    "reranking_batches",
    "split_by_text",
    "steps_per_epoch",
    "text_key",
]
