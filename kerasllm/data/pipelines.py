"""How do rows reach the model? Plans -> rows read from the shards -> masks -> batches, each addressed by its step.

The global batch of step k is the same however the run got there: resuming is asking for step k.
"""

# B rows, T tokens, M masked slots, S sequences of a row

import collections
import functools
import math
import threading
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from kerasllm.config import Run
from kerasllm.data.corpus import Split
from kerasllm.data.packing import RowPlan, one_a_row, pack_rows, sequences_a_row
from kerasllm.data.plans import PairPlan, StreamPlan, plan_pairs, plan_stream
from kerasllm.errors import ConfigError, DataError
from kerasllm.text import Masker

EVALUATION_SEED = 20181011  # of every evaluation, whatever the run's seed: scores of two runs are of the same rows
Plan = RowPlan | StreamPlan
Arrays = tuple[np.ndarray, ...]
_TOKEN_NAMES = ("token_ids", "token_type_ids", "sequence_ids", "position_ids")
_BERT_NAMES = ("row_ids", *_TOKEN_NAMES, "pair_positions", "pair_labels", "pair_weights")
_GPT_NAMES = ("token_ids", "sequence_ids", "position_ids", "labels", "label_weights")


def pretraining_batches(split: Split, run: Run, *, start_step: int = 0, repeat: bool = True) -> tf.data.Dataset:
    """Global batches for BERT or GPT, by run.objective.task; see the data section of the documentation for their names.

    Training ("train"): step k holds rows k*B to (k+1)*B of an endless line of epochs. Each epoch is a new order, new
    pairs and new masks, all drawn from (run.seed, epoch). Every epoch has the steps of the first one: where its plan
    has more rows the last of them (others each time) are left out, where it has fewer it begins again.

    With run.train.pack a training row of BERT holds several sequences, at most S, which the first epoch's plan tells.
    Without it, and in evaluation, S is 1: held-out figures do not depend on packing.

    Evaluation ("held_out"): always the same rows and masks, at most run.train.evaluation_rows, once; the last batch is
    filled up with rows of weight 0.

    Args:
      split: of an open corpus.
      run: objective, lengths, batch and seed.
      start_step: number of the first batch.
      repeat: go on with the next epoch; False ends after the first one. Held-out rows never repeat.

    Raises:
      ConfigError: the task is not a pretraining, or the vocabulary lacks a mask token.
      DataError: the documents do not fill a row.
    """
    rows = _Rows(split, run)
    stop = np.iinfo(np.int64).max if repeat and not rows.is_evaluation else rows.num_steps
    steps = tf.data.Dataset.range(start_step, stop)
    if run.objective.task == "gpt_pretraining":
        return steps.map(_reader(rows, _gpt_rows, _GPT_NAMES), tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    read = _reader(rows, _bert_rows, _BERT_NAMES)
    mask = _masking(split, run, rows.seed)
    return steps.map(lambda step: mask(read(step)), tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def steps_per_epoch(split: Split, run: Run) -> int:
    """Batches of one epoch, or of one evaluation when the split is held out."""
    return _Rows(split, run).num_steps


class _Rows:
    """Which rows of which epoch belong to a step. Keeps the plan of the epoch at hand; safe to share among threads."""

    def __init__(self, split: Split, run: Run) -> None:
        self.split, self.run, self.is_evaluation = split, run, split.name == "held_out"
        self.seed = EVALUATION_SEED if self.is_evaluation else run.seed
        self._lock = threading.Lock()
        self._plans: collections.OrderedDict[int, Plan] = collections.OrderedDict()
        self.packs = run.train.pack and run.objective.task == "bert_pretraining" and not self.is_evaluation
        self.num_sequences = 1  # S; the first epoch's plan says how many there are in packed rows
        rows = len(self.plan(0))
        if not rows:
            raise DataError(
                f"The {split.num_tokens} tokens of the {split.name} documents do not fill one row of "
                f"{run.train.sequence_length}. Prepare more text, or lower train.sequence_length."
            )
        self.num_rows = min(rows, run.train.evaluation_rows) if self.is_evaluation else rows
        batch = run.train.global_batch
        self.num_steps = math.ceil(self.num_rows / batch) if self.is_evaluation else max(1, self.num_rows // batch)

    def plan(self, epoch: int) -> Plan:
        with self._lock:
            if epoch not in self._plans:
                self._plans[epoch] = self._make_plan(epoch)
                while len(self._plans) > 2:  # this epoch's and, at its end, the next one's
                    self._plans.popitem(last=False)
            return self._plans[epoch]

    def of_step(self, step: int) -> tuple[Plan, np.ndarray, np.ndarray]:
        """The plan, the plan's rows [B], and a name [B] int64 for each of them that no row of any epoch shares.

        Filling rows are -1.
        """
        batch = self.run.train.global_batch
        if self.is_evaluation:
            rows = np.arange(step * batch, (step + 1) * batch)
            return self.plan(0), np.where(rows < self.num_rows, rows, -1), rows
        epoch, step = divmod(step, self.num_steps)
        plan = self.plan(epoch)
        rows = np.arange(step * batch, (step + 1) * batch)
        return plan, rows % len(plan), rows + (epoch << 32)

    def _make_plan(self, epoch: int) -> Plan:
        train, objective = self.run.train, self.run.objective
        if objective.task == "gpt_pretraining":
            return plan_stream(self.split, self.seed, epoch, train.sequence_length)
        if objective.task == "bert_pretraining":
            pairs = objective.pairs if objective.next_sentence_weight > 0 else None
            sequences = plan_pairs(self.split, self.seed, epoch, train.sequence_length, pairs, cut=self.packs)
            if not self.packs:
                return one_a_row(sequences)
            if epoch == 0:
                self.num_sequences = sequences_a_row(sequences, train.sequence_length)
            return pack_rows(sequences, train.sequence_length, self.seed, epoch, self.num_sequences)
        raise ConfigError(
            f"objective.task={objective.task!r} is not a pretraining: bert_pretraining or gpt_pretraining."
        )


def _reader(
    rows: _Rows, read: Callable[[_Rows, int], Arrays], names: tuple[str, ...]
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """A function for Dataset.map from a step to the arrays of its rows, with static shapes."""
    batch, length = rows.run.train.global_batch, rows.run.train.sequence_length
    shapes = {name: [batch, rows.num_sequences] for name in ("pair_positions", "pair_labels", "pair_weights")}
    shapes["row_ids"] = [batch, 2]
    types = [tf.float32 if name.endswith("weights") else tf.int32 for name in names]

    def of_step(step: tf.Tensor) -> dict[str, tf.Tensor]:
        arrays = tf.numpy_function(functools.partial(read, rows), [step], types)
        for name, array in zip(names, arrays, strict=True):
            array.set_shape(shapes.get(name, [batch, length]))
        return dict(zip(names, arrays, strict=True))

    return of_step


def _bert_rows(rows: _Rows, step: int) -> Arrays:
    """The arrays of _BERT_NAMES for one step, not masked yet."""
    plan, indices, names = rows.of_step(int(step))
    assert isinstance(plan, RowPlan)
    sequences, length = plan.sequences, rows.run.train.sequence_length
    tokens = {name: np.zeros((len(indices), length), np.int32) for name in _TOKEN_NAMES}
    tokens["token_ids"].fill(rows.split.tokenizer.special.pad)
    positions, labels = (np.zeros((len(indices), rows.num_sequences), np.int32) for _ in range(2))
    weights = np.zeros((len(indices), rows.num_sequences), np.float32)
    for row, index in enumerate(indices.tolist()):
        if index < 0:
            continue
        end = 0
        for slot, number in enumerate(range(*plan.borders[index : index + 2].tolist())):
            positions[row, slot], begin = end, end
            token_ids, middle = _read_sequence(rows.split, sequences, number)
            end = begin + len(token_ids)
            tokens["token_ids"][row, begin:end] = token_ids
            tokens["token_type_ids"][row, begin + middle : end] = 1
            tokens["sequence_ids"][row, begin:end] = slot + 1
            tokens["position_ids"][row, begin:end] = np.arange(end - begin)
            labels[row, slot], weights[row, slot] = sequences.is_wrong[number], sequences.has_pair[number]
    row_ids = np.stack([names & 0x7FFFFFFF, names >> 31], axis=1).astype(np.int32)
    return row_ids, *tokens.values(), positions, labels, weights


def _read_sequence(split: Split, plan: PairPlan, number: int) -> tuple[np.ndarray, int]:
    """Token ids of `[CLS] a [SEP] b [SEP]`, or of `[CLS] a [SEP]`, and the place where b begins."""
    special = split.tokenizer.special
    length_a, length_b = int(plan.length_a[number]), int(plan.length_b[number])
    parts: list[ArrayLike] = [[special.cls], split.read(int(plan.start_a[number]), length_a), [special.sep]]
    if length_b:
        parts += [split.read(int(plan.start_b[number]), length_b), [special.sep]]
    return np.concatenate(parts), length_a + 2


def _gpt_rows(rows: _Rows, step: int) -> Arrays:
    """The arrays of _GPT_NAMES for one step."""
    plan, indices, _ = rows.of_step(int(step))
    assert isinstance(plan, StreamPlan)
    length = plan.length
    stream = np.full((len(indices), length + 1), rows.split.tokenizer.special.pad, np.int32)
    sequences = np.zeros((len(indices), length + 1), np.int32)
    positions = np.zeros((len(indices), length + 1), np.int32)
    for row, index in enumerate(indices.tolist()):
        if index < 0:
            continue
        begin = int(plan.rows[index]) * length
        for ordinal, (start, tokens) in enumerate(_stream_parts(plan, rows.split, begin, begin + length + 1), 1):
            place = slice(start - begin, start - begin + len(tokens))
            stream[row, place], sequences[row, place] = tokens, ordinal
            positions[row, place] = np.arange(len(tokens))
    weights = (sequences[:, 1:] == sequences[:, :-1]) & (sequences[:, 1:] > 0)
    return stream[:, :-1], sequences[:, :-1], positions[:, :-1], stream[:, 1:], weights.astype(np.float32)


def _stream_parts(plan: StreamPlan, split: Split, begin: int, end: int) -> Iterator[tuple[int, np.ndarray]]:
    """Stream position and token ids of each document's part between two stream positions."""
    special = split.tokenizer.special
    first = int(np.searchsorted(plan.starts, begin, side="right")) - 1
    while first < len(plan.documents) and plan.starts[first] < end:
        document_begin, document_end = int(plan.starts[first]), int(plan.starts[first + 1])
        start, stop = max(begin, document_begin), min(end, document_end)
        # Position 0 of a document is bos, its last one eos; its tokens stand between.
        inside = max(start, document_begin + 1), min(stop, document_end - 1)
        tokens = split.tokens(
            int(plan.documents[first]), inside[0] - document_begin - 1, inside[1] - document_begin - 1
        )
        before = np.full(int(start == document_begin), special.bos, np.int32)
        after = np.full(int(stop == document_end), special.eos, np.int32)
        yield start, np.concatenate([before, tokens, after])
        first += 1


def _masking(split: Split, run: Run, seed: int) -> Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]:
    """A function that adds masks to the rows of a batch; a row's mask comes from (seed, epoch, row) alone."""
    if split.tokenizer.special.mask < 0:
        raise ConfigError(
            "This vocabulary has no mask token, which bert_pretraining needs. "
            "Prepare the corpus with tokenizer.kind=wordpiece or with a vocabulary trained here."
        )
    objective = run.objective
    masker = Masker(split.tokenizer, objective.mask_share, objective.whole_word, objective.mask_spans)
    base = np.random.SeedSequence([seed, 2]).generate_state(2).astype(np.uint32).view(np.int32)

    def mask(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        batch = dict(batch)
        seeds = tf.bitwise.bitwise_xor(batch.pop("row_ids"), base)
        return {**batch, **masker(batch["token_ids"], seeds)}

    return mask
