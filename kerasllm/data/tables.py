"""How are tables of texts and labels read? .tsv, .csv and .jsonl, checked line by line; no TensorFlow here."""

import csv
import dataclasses
import difflib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from kerasllm.config import Data, LabelHead
from kerasllm.errors import DataError

NO_LABEL = -1  # a row that says nothing for this head
OUT_OF_SCOPE = -2  # a text that belongs to none of the head's labels


@dataclasses.dataclass(frozen=True)
class LabelledTexts:
    """Texts with their classes.

    Attributes:
      texts: as they stand in the file.
      labels: by head, the index into its labels of each text, or NO_LABEL, or OUT_OF_SCOPE.
      rows: line of the file, counted from 1, at which each text ends.
      second: the other texts, where they come in pairs.
    """

    texts: list[str]
    labels: dict[str, list[int]]
    rows: list[int]
    second: list[str] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: list[int] | np.ndarray) -> "LabelledTexts":
        """The texts at these places, in this order."""
        return LabelledTexts(
            [self.texts[i] for i in indices],
            {head: [labels[i] for i in indices] for head, labels in self.labels.items()},
            [self.rows[i] for i in indices],
            None if self.second is None else [self.second[i] for i in indices],
        )


def read_labelled(path: str | os.PathLike[str], data: Data) -> LabelledTexts:
    """Reads a .tsv (header, no quoting), .csv (header, quoting) or .jsonl file.

    With several heads (data.heads), a row may lack the label of some: an empty cell, or no such column.

    Args:
      path: the file; its ending says its form.
      data: names of the columns and the known labels.

    Raises:
      DataError: naming file and line: a missing column, an unknown label, a row with no label at all, an empty text,
        a row of another width, another encoding; or a file without rows.
    """
    path, heads = Path(path), data.label_heads()
    if not all(head.labels for head in heads.values()):
        raise DataError(f"{path}: data.labels is empty. List the labels in the order of the output probabilities.")
    readers = {name: _label_reader(name, head, data) for name, head in heads.items()}
    columns = [data.text_column, *([data.second_text_column] if data.second_text_column else [])]
    columns += [] if data.heads else [data.label_column]
    read, labels, rows = [], [], []
    for row, fields in read_columns(path, columns):
        try:
            labels.append([read_label(fields) for read_label in readers.values()])
        except DataError as error:
            raise DataError(f"{path}:{row}: {error}") from None
        if all(label == NO_LABEL for label in labels[-1]):
            listed = ", ".join(head.column for head in heads.values())
            raise DataError(f"{path}:{row}: no label in any of the columns {listed}. Fill one in or remove the row.")
        read.append([fields[column] for column in columns])
        rows.append(row)
    if not rows:
        raise DataError(f"{path}: no rows. Give a file with at least one labelled text.")
    texts, *others = ([texts[place] for texts in read] for place in range(2 if data.second_text_column else 1))
    for each in (texts, *others):
        _refuse_empty(path, each, rows)
    by_head = dict(zip(heads, (list(each) for each in zip(*labels, strict=True)), strict=True))
    return LabelledTexts(texts, by_head, rows, others[0] if others else None)


def read_texts(path: str | os.PathLike[str], data: Data) -> list[str]:
    """Reads texts to score, every row of them: a .txt file holds one a line, other files as `read_labelled`.

    Raises:
      DataError: the file is missing, empty, not UTF-8, or lacks data.text_column.
    """
    path = Path(path)
    if path.suffix == ".txt":
        return _read_text(path).removesuffix("\n").split("\n")
    return [fields[data.text_column] for _, fields in read_columns(path, [data.text_column])]


def read_columns(path: str | os.PathLike[str], columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and fields of each row of a .tsv (header, no quoting), .csv (header, quoting) or .jsonl file.

    Args:
      path: the file; its ending says its form.
      columns: that every row must have.

    Raises:
      DataError: naming file and line: a missing column, a row of another width, another encoding or form.
    """
    path = Path(path)
    readers = {".tsv": _read_tsv, ".csv": _read_csv, ".jsonl": _read_jsonl}
    if path.suffix not in readers:
        raise DataError(f"{path}: unknown ending {path.suffix!r}. Give a .tsv, .csv or .jsonl file.")
    for row, fields in readers[path.suffix](path, _read_text(path)):
        for column in columns:
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


def _label_reader(name: str, head: LabelHead, data: Data) -> Callable[[dict[str, str]], int]:
    """A function of a row's fields that gives the class of one head, and raises DataError for an unknown one."""
    place = f"data.heads.{name}.labels" if data.heads else "data.labels"
    known = {label: index for index, label in enumerate(head.labels)}
    if data.out_of_scope_label is not None:
        known.setdefault(data.out_of_scope_label, OUT_OF_SCOPE)
    if data.heads:
        known.setdefault("", NO_LABEL)

    def read(fields: dict[str, str]) -> int:
        label = fields.get(head.column, "")
        if label not in known:
            nearest = difflib.get_close_matches(label, head.labels, n=1, cutoff=0.5)
            hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
            raise DataError(f"unknown label {label!r}; {place} has {', '.join(head.labels)}.{hint}")
        return known[label]

    return read


def _refuse_empty(path: Path, texts: list[str], rows: list[int]) -> None:
    empty = [row for text, row in zip(texts, rows, strict=True) if not text.strip()]
    if empty:
        raise DataError(f"{path}:{empty[0]}: empty text ({len(empty)} such rows). Remove these rows or fill them in.")
