"""How are tables of texts and labels read? .tsv, .csv and .jsonl, checked line by line; no TensorFlow here."""

import csv
import dataclasses
import difflib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from kerasllm.config import Data
from kerasllm.errors import DataError


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
    for row, fields in read_columns(path, [data.text_column, data.label_column]):
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


def _unknown_label(label: str, data: Data) -> str:
    nearest = difflib.get_close_matches(label, data.labels, n=1, cutoff=0.5)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return f"unknown label {label!r}; data.labels has {', '.join(data.labels)}.{hint}"


def _refuse_empty(path: Path, texts: list[str], rows: list[int]) -> None:
    empty = [row for text, row in zip(texts, rows, strict=True) if not text.strip()]
    if empty:
        raise DataError(f"{path}:{empty[0]}: empty text ({len(empty)} such rows). Remove these rows or fill them in.")
