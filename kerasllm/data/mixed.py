"""What does a step learn, where labelled tables are learned beside a corpus? One task a step, drawn by its share.

Source: Liu et al. 2019 (MT-DNN), algorithm 1: every step takes a batch of one task, in an order that is shuffled.
"""

# B rows, T tokens, S sequences of a row, M masked slots

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasllm.config import Data, LabelHead, MixedTask, Run
from kerasllm.data.corpus import Split
from kerasllm.data.labelled import labelled_batches
from kerasllm.data.pipelines import pretraining_batches, steps_per_epoch
from kerasllm.data.tables import LabelledTexts, read_labelled
from kerasllm.errors import ConfigError, DataError
from kerasllm.text import Tokenizer

ROUND = 64  # steps, of which each task has its share but for less than one step
Batch = dict[str, tf.Tensor]


@dataclass(frozen=True)
class Tables:
    """The labelled texts of one task."""

    train: LabelledTexts
    validation: LabelledTexts


class TaskOrder:
    """Which task a step belongs to, as a function of (run.seed, step): 0 is the corpus, k the k-th task of run.mix.

    The steps of a round take the points (0 + u) / 64, (1 + u) / 64, ... of the line on which the tasks have their
    shares, in a random order, with one random u in [0, 1) for the round.
    """

    def __init__(self, run: Run) -> None:
        self._seed, shares = run.seed, [task.share for task in run.mix.values()]
        self._borders = np.cumsum([1 - sum(shares), *shares])[:-1]

    def of_round(self, number: int) -> np.ndarray:
        """[64] int64: the tasks of steps 64 * number, 64 * number + 1, ..."""
        random = np.random.default_rng([self._seed, int(number), 4])
        points = (random.permutation(ROUND) + random.random()) / ROUND
        return np.searchsorted(self._borders, points, side="right").astype(np.int64)

    def steps_before(self, step: int) -> list[int]:
        """How many of the first `step` steps belonged to each task."""
        tasks = [self.of_round(number) for number in range(math.ceil(step / ROUND))]
        return np.bincount(np.concatenate([*tasks, [0]])[:step].astype(int), minlength=len(self._borders) + 1).tolist()

    def from_step(self, step: int) -> tf.data.Dataset:
        """The task (int64 scalar) of each step from one on, without an end."""
        first, skipped = divmod(step, ROUND)
        rounds = tf.data.Dataset.range(first, np.iinfo(np.int64).max)
        tasks = rounds.map(lambda n: tf.ensure_shape(tf.numpy_function(self.of_round, [n], tf.int64), [ROUND]))
        return tasks.unbatch().skip(skipped)


def mixed_batches(split: Split, tables: Mapping[str, Tables], run: Run, *, start_step: int = 0) -> tf.data.Dataset:
    """Batches as of `pretraining_batches`, with `<task>_labels` and `<task>_weights` [B] of every task of run.mix.

    Training: step k is of the task that TaskOrder says and holds that task's next batch. A batch of the corpus has
    weight 0 for all labels. A labelled batch is as long as its longest text (T), and has no masked slot (M = 0), so
    that nothing is computed for the words that it does not ask for; its pairs have weight 0.

    Evaluation ("held_out"): the corpus's rows, then every task's validation rows, at most run.train.evaluation_rows.

    Raises:
      ConfigError, DataError: as `pretraining_batches`.
    """
    names, training = tuple(run.mix), split.name != "held_out"
    order = TaskOrder(run)
    done = order.steps_before(start_step) if training else [0] * (len(names) + 1)
    corpus = pretraining_batches(split, run, start_step=done[0])
    slots = corpus.element_spec["pair_labels"].shape[1]
    parts = [corpus.map(lambda batch: _with_labels(batch, names), tf.data.AUTOTUNE)]
    for name, step in zip(names, done[1:], strict=True):
        batches = _task_batches(tables[name], split.tokenizer, run, training, step)
        parts.append(batches.map(lambda batch: _with_labels(_as_pretraining(batch, slots), names), tf.data.AUTOTUNE))
    if training:
        return tf.data.Dataset.choose_from_datasets(parts, order.from_step(start_step)).prefetch(tf.data.AUTOTUNE)
    first, *others = parts
    for part in others:
        first = first.concatenate(part)
    return first


def mixed_steps_per_epoch(split: Split, run: Run) -> int:
    """Steps in which the corpus is read once, those of the labelled tables among them."""
    return round(steps_per_epoch(split, run) / (1 - sum(task.share for task in run.mix.values())))


def read_tables(folders: Mapping[str, str | os.PathLike[str]], run: Run) -> dict[str, Tables]:
    """Reads train.* and validation.* (.tsv, .csv or .jsonl) from the folder of every task of run.mix.

    Raises:
      ConfigError: a task has no folder, or a folder no task.
      DataError: a file is missing, or as `read_labelled`; the task is named.
    """
    for name in {*folders} ^ {*run.mix}:
        if name in folders:
            raise ConfigError(f"no task {name!r} in the run's mix (there are: {', '.join(run.mix) or 'none'}).")
        raise ConfigError(f"mix.{name}: no folder is given for it. Give --labelled {name}=FOLDER.")
    return {name: _read(name, task, Path(folders[name])) for name, task in run.mix.items()}


def _read(name: str, task: MixedTask, folder: Path) -> Tables:
    head = LabelHead(column=task.label_column, labels=task.labels)
    settings = Data(text_column=task.text_column, second_text_column=task.second_text_column, heads={name: head})
    parts = []
    for part in ("train", "validation"):
        files = sorted(path for path in folder.glob(f"{part}.*") if path.suffix in (".tsv", ".csv", ".jsonl"))
        if len(files) != 1:
            raise DataError(f"mix.{name}: {folder} holds {len(files)} files {part}.tsv, .csv or .jsonl; it needs one.")
        try:
            parts.append(read_labelled(files[0], settings))
        except DataError as error:
            raise DataError(f"mix.{name}: {error}") from None
    return Tables(*parts)


def _task_batches(tables: Tables, tokenizer: Tokenizer, run: Run, training: bool, step: int) -> tf.data.Dataset:
    run = run.model_copy(update={"objective": run.objective.model_copy(update={"consistency": 0.0})})
    if training:
        return labelled_batches(tables.train, tokenizer, run, training=True, start_step=step)
    first = list(range(min(len(tables.validation), run.train.evaluation_rows)))
    return labelled_batches(tables.validation.take(first), tokenizer, run, training=False)


def _with_labels(batch: Batch, names: tuple[str, ...]) -> Batch:
    """The batch with labels and weights of all tasks; those it does not have weigh 0."""
    rows = tf.shape(batch["token_ids"])[:1]
    absent = [name for name in names if f"{name}_labels" not in batch]
    return {
        **batch,
        **{f"{name}_labels": tf.zeros(rows, tf.int32) for name in absent},
        **{f"{name}_weights": tf.zeros(rows, tf.float32) for name in absent},
    }


def _as_pretraining(batch: Batch, slots: int) -> Batch:
    """A labelled batch with what a batch of the corpus has beside it: places of tokens, no mask, empty pairs."""
    rows = tf.shape(batch["token_ids"])[0]
    pairs, none = tf.zeros([rows, slots], tf.int32), tf.zeros([rows, 0], tf.int32)
    return {
        **batch,
        "position_ids": tf.broadcast_to(tf.range(tf.shape(batch["token_ids"])[1]), tf.shape(batch["token_ids"])),
        "pair_positions": pairs,
        "pair_labels": pairs,
        "pair_weights": tf.cast(pairs, tf.float32),
        "masked_positions": none,
        "masked_labels": none,
        "masked_weights": tf.cast(none, tf.float32),
    }
