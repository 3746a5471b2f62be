"""How do labelled texts become batches? Tables of texts and labels, checked line by line."""

# B rows, T tokens

import collections
import csv
import dataclasses
import difflib
import json
import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasllm.config import Data, Run
from kerasllm.errors import DataError
from kerasllm.text import Tokenizer, pack_texts

LENGTH_MULTIPLE = 16  # tokens: batches are padded to a multiple of this, so that few shapes occur


@dataclasses.dataclass(frozen=True)
class LabelledTexts:
    """Texts with their classes.

    Attributes:
      texts: as they stand in the file.
      labels: index into data.labels of each text.
      rows: line of the file, counted from 1, at which each text ends.
    """

    texts: list[str]
    labels: list[int]
    rows: list[int]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: list[int] | np.ndarray) -> "LabelledTexts":
        """The texts at these places, in this order."""
        return LabelledTexts(
            [self.texts[i] for i in indices], [self.labels[i] for i in indices], [self.rows[i] for i in indices]
        )


def read_labelled(path: str | os.PathLike[str], data: Data) -> LabelledTexts:
    """Reads a .tsv (header, no quoting), .csv (header, quoting) or .jsonl file.

    Args:
      path: the file; its ending says its form.
      data: names of the columns and the known labels.

    Raises:
      DataError: naming file and line: a missing column, an unknown label, an empty text, a row of another width,
        another encoding; or a file without rows.
    """
    path = Path(path)
    if not data.labels:
        raise DataError(f"{path}: data.labels is empty. List the labels in the order of the output probabilities.")
    known = {label: index for index, label in enumerate(data.labels)}
    texts, labels, rows = [], [], []
    for row, fields in _records(path, data):
        text, label = fields[data.text_column], fields[data.label_column]
        if label not in known:
            raise DataError(f"{path}:{row}: {_unknown_label(label, data)}")
        texts.append(text)
        labels.append(known[label])
        rows.append(row)
    if not texts:
        raise DataError(f"{path}: no rows. Give a file with at least one labelled text.")
    _refuse_empty(path, texts, rows)
    return LabelledTexts(texts, labels, rows)


def labelled_batches(
    examples: LabelledTexts, tokenizer: Tokenizer, run: Run, *, training: bool, start_step: int = 0
) -> tf.data.Dataset:
    """Batches of token_ids, token_type_ids, sequence_ids [B, T], labels [B] int32 and label_weights [B] float32.

    T is the longest text of the batch rounded up to 16, at most run.train.sequence_length.

    Training: endless; the order of an epoch is a function of (run.seed, epoch), step k is always the same batch, the
    rows after an epoch's last full batch are left out (others each time). Otherwise: once, in the order of the file;
    the last batch is filled up with rows of weight 0.
    """
    steps = labelled_steps_per_epoch(examples, run, training=training)
    order = _Order(len(examples), run, training, steps)
    texts, labels = tf.constant(examples.texts), tf.constant(examples.labels, tf.int32)
    batch = run.train.global_batch

    def of_step(step: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = tf.ensure_shape(tf.numpy_function(order.rows, [step], tf.int64), [batch])
        is_real, places = rows >= 0, tf.maximum(rows, 0)
        packed = pack_texts(
            tokenizer, tf.gather(texts, places), None, max_length=run.train.sequence_length, multiple_of=LENGTH_MULTIPLE
        )
        return {**packed, "labels": tf.gather(labels, places), "label_weights": tf.cast(is_real, tf.float32)}

    numbers = tf.data.Dataset.range(start_step, np.iinfo(np.int64).max if training else steps)
    return numbers.map(of_step, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def labelled_steps_per_epoch(examples: LabelledTexts, run: Run, *, training: bool) -> int:
    """Batches of one epoch: full ones in training, all of them otherwise."""
    batch = run.train.global_batch
    return max(1, len(examples) // batch) if training else math.ceil(len(examples) / batch)


class _Order:
    """Which examples belong to a step."""

    def __init__(self, count: int, run: Run, training: bool, steps: int) -> None:
        self._count, self._batch, self._seed, self._steps = count, run.train.global_batch, run.seed, steps
        self._training, self._lock = training, threading.Lock()
        self._orders: collections.OrderedDict[int, np.ndarray] = collections.OrderedDict()

    def rows(self, step: int) -> np.ndarray:
        """[B] int64; -1 where the batch is only filled up."""
        if not self._training:
            rows = np.arange(step * self._batch, (step + 1) * self._batch)
            return np.where(rows < self._count, rows, -1)
        epoch, step = divmod(int(step), self._steps)
        return self._order(epoch)[np.arange(step * self._batch, (step + 1) * self._batch) % self._count]

    def _order(self, epoch: int) -> np.ndarray:
        with self._lock:
            if epoch not in self._orders:
                self._orders[epoch] = np.random.default_rng([self._seed, epoch, 3]).permutation(self._count)
                while len(self._orders) > 2:
                    self._orders.popitem(last=False)
            return self._orders[epoch]


def _records(path: Path, data: Data) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and fields of each row, the two columns present."""
    readers = {".tsv": _read_tsv, ".csv": _read_csv, ".jsonl": _read_jsonl}
    if path.suffix not in readers:
        raise DataError(f"{path}: unknown ending {path.suffix!r}. Give a .tsv, .csv or .jsonl file.")
    for row, fields in readers[path.suffix](path, _read_text(path)):
        for column in (data.text_column, data.label_column):
            if column not in fields:
                raise DataError(
                    f"{path}:{row}: no column {column!r} (found: {', '.join(fields)}). "
                    "Name the columns with data.text_column and data.label_column."
                )
        yield row, fields


def _read_tsv(path: Path, content: str) -> Iterator[tuple[int, dict[str, str]]]:
    header, *lines = content.removesuffix("\n").split("\n")
    names = header.split("\t")
    for row, line in enumerate(lines, 2):
        yield row, _named(path, row, names, line.split("\t"))


def _read_csv(path: Path, content: str) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(content.splitlines(keepends=True), strict=True)
    try:
        names = next(reader)
        for values in reader:
            yield reader.line_num, _named(path, reader.line_num, names, values)
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not CSV ({error}).") from None


def _read_jsonl(path: Path, content: str) -> Iterator[tuple[int, dict[str, str]]]:
    for row, line in enumerate(content.removesuffix("\n").split("\n"), 1):
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}:{row}: not JSON ({error}). Each line holds one object.") from None
        if not isinstance(fields, dict):
            raise DataError(f"{path}:{row}: a {type(fields).__name__}, not an object. Each line holds one object.")
        yield row, {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}


def _named(path: Path, row: int, names: list[str], values: list[str]) -> dict[str, str]:
    if len(values) != len(names):
        raise DataError(f"{path}:{row}: {len(values)} columns, the header has {len(names)} ({', '.join(names)}).")
    return dict(zip(names, values, strict=True))


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot read the file ({error.strerror}).") from None
    if not content.strip():
        raise DataError(f"{path}: the file is empty. Give a file with at least one labelled text.")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}. Save the file as UTF-8.") from None


def _unknown_label(label: str, data: Data) -> str:
    nearest = difflib.get_close_matches(label, data.labels, n=1, cutoff=0.5)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return f"unknown label {label!r}; data.labels has {', '.join(data.labels)}.{hint}"


def _refuse_empty(path: Path, texts: list[str], rows: list[int]) -> None:
    empty = [row for text, row in zip(texts, rows, strict=True) if not text.strip()]
    if empty:
        raise DataError(f"{path}:{empty[0]}: empty text ({len(empty)} such rows). Remove these rows or fill them in.")
