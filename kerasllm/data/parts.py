"""How do labelled files become one folder? Joined, dealt to train, validation and test, checked, and written whole."""

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from kerasllm.config import Data
from kerasllm.data.checks import check_table
from kerasllm.data.formats import Row
from kerasllm.data.splits import split_by_text, text_key
from kerasllm.errors import DataError

Parts = dict[str, list[Row]]


def join(rows: Iterable[Row]) -> list[Row]:
    """One row for each text, with the labels of all its rows; of two labels in one column the first counts."""
    joined: dict[str, Row] = {}
    for row in rows:
        first = joined.setdefault(text_key(row.text), row)
        joined[text_key(row.text)] = Row(first.text, {**row.labels, **first.labels}, first.source)
    return list(joined.values())


def deal(rows: Sequence[Row], test: Sequence[Row], data: Data) -> Parts:
    """Rows to train, validation and test by a hash of their text, so that equal texts stay together.

    Where `test` is given it is the test part, whole; its texts are left out of the other two.
    """
    shares = {"validation": data.validation_share} if test else {
        "test": data.test_share,
        "validation": data.validation_share,
    }  # fmt: skip
    dealt = split_by_text(join(rows), lambda row: row.text, shares, [row.text for row in test])
    return {"train": dealt["train"], "validation": dealt["validation"], "test": list(test) or dealt["test"]}


def check(parts: Parts, data: Data) -> str:
    """What there is of each label, and what is odd about it, as text.

    Raises:
      DataError: a part is empty, a label is not one of the run's, or a text stands in two parts.
    """
    reports = []
    for name, head in data.label_heads().items():
        known = [*head.labels, *([data.out_of_scope_label] if data.out_of_scope_label else [])] if head.labels else None
        tables = {
            part: [(row.text, row.labels[head.column]) for row in rows if row.labels.get(head.column)]
            for part, rows in parts.items()
        }
        if data.heads:  # a part may say nothing of a head, but training has to
            tables = {part: rows for part, rows in tables.items() if rows or part == "train"}
        report = check_table(tables, known_labels=known)
        report.raise_errors()
        reports.append(f"{name}\n{report}" if data.heads else str(report))
    return "\n\n".join(reports)


def write_parts(parts: Mapping[str, Sequence[Row]], data: Data, output: Path) -> None:
    """Writes <part>.tsv with the columns text, one for each head, and source; the folder appears whole or not at all.

    Raises:
      DataError: it exists already, or cannot be written.
    """
    if output.exists():
        raise DataError(f"{output}: exists already. Remove it or give another --output.")
    columns = [head.column for head in data.label_heads().values()]
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        for name, rows in parts.items():
            lines = ["\t".join([data.text_column, *columns, "source"])]
            lines += [
                "\t".join([row.text, *(row.labels.get(each, "") for each in columns), row.source]) for row in rows
            ]
            (temporary / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        temporary.rename(output)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise DataError(f"{output}: cannot be written ({error.strerror}). Give another --output.") from None
