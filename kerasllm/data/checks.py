"""Is a labelled table fit to train on? Unknown and rare labels, duplicates, contradictions, leaks between the parts."""

import collections
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from kerasllm.data.splits import normal_form
from kerasllm.errors import DataError

SHOWN_ROWS = 5  # of a finding, in its message
IMBALANCE = 20  # times as many rows as the rarest label: worth a note
LINK, NOT_LETTERS = re.compile(r"(?:https?://|www\.)\S+"), re.compile(r"[\W\d_]+")

Table = Sequence[tuple[str, str]]  # (text, label) of each row; an empty label: the row has none
Place = tuple[str, int]  # part and row, counted from 1


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Attributes:
      kind: such as "leak" or "rare label".
      severity: an error stops the preparation, a warning does not.
      message: what, where and how to mend, in a sentence.
      places: every row it is about, as (part, row), rows counted from 1 without the header.
    """

    kind: str
    severity: Literal["error", "warning"]
    message: str
    places: tuple[Place, ...] = ()


@dataclass(frozen=True)
class Report:
    """What check_table found; str() is a short aligned table.

    Attributes:
      counts: part -> label -> rows.
      findings: errors first.
    """

    counts: Mapping[str, Mapping[str, int]]
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        labels = sorted({label for counts in self.counts.values() for label in counts})
        table = [
            ["label", *self.counts],
            *([label, *(f"{counts.get(label, 0):,}" for counts in self.counts.values())] for label in labels),
            ["all", *(f"{sum(counts.values()):,}" for counts in self.counts.values())],
        ]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in table]
        return "\n".join([*lines, *(f"{finding.severity}: {finding.message}" for finding in self.findings)])

    def raise_errors(self) -> None:
        """Raises DataError that names all errors found; does nothing where there is none."""
        errors = [finding.message for finding in self.findings if finding.severity == "error"]
        if errors:
            raise DataError("\n".join(errors))


def check_table(
    parts: Mapping[str, Table],
    *,
    known_labels: Collection[str] | None = None,
    min_rows_per_label: int = 2,
    train: str = "train",
    test: str = "test",
) -> Report:
    """Looks for what spoils training or flatters evaluation.

    Errors are empty parts and texts, unknown labels, and texts that stand in both the train and the test part (see
    kerasllm.data.drop_shared). Warnings are rare labels, labels that training never shows, contradicting labels,
    duplicates within a part, other texts in two parts, near-duplicates across parts, and strong imbalance.

    Args:
      parts: such as "train", "validation", "test" -> rows.
      known_labels: None: any label is known.
      min_rows_per_label: of the train part; labels with fewer rows are rare.
      train: name of the part that is trained on.
      test: name of the part that is measured on.
    """
    counts = {part: collections.Counter(label for _, label in rows if label) for part, rows in parts.items()}
    places = _places_by_text(parts)
    findings = [
        *_empty(parts),
        *_unknown(parts, known_labels),
        *_rare(counts.get(train, {}), counts, known_labels, min_rows_per_label, train),
        *_contradictions(parts, places),
        *_duplicates(places, train, test),
        *_near_duplicates(parts, places),
    ]
    findings.sort(key=lambda finding: finding.severity != "error")
    return Report(counts, tuple(findings))


def _places_by_text(parts: Mapping[str, Table]) -> dict[str, list[Place]]:
    places: dict[str, list[Place]] = collections.defaultdict(list)
    for part, rows in parts.items():
        for row, (text, _) in enumerate(rows, 1):
            places[normal_form(text)].append((part, row))
    places.pop("", None)  # reported by itself
    return places


def _empty(parts: Mapping[str, Table]) -> Iterator[Finding]:
    for part, rows in parts.items():
        if not rows:
            message = f"The {part} part has no rows. Give more data or other shares."
            yield Finding("empty part", "error", message)
        blank = tuple((part, row) for row, (text, _) in enumerate(rows, 1) if not text.strip())
        if blank:
            message = f"{_count(len(blank), 'row')} without text: {_name(blank)}. Remove them or fill them in."
            yield Finding("empty text", "error", message, blank)


def _unknown(parts: Mapping[str, Table], known_labels: Collection[str] | None) -> Iterator[Finding]:
    places: dict[str, list[Place]] = collections.defaultdict(list)
    for part, rows in parts.items() if known_labels is not None else ():
        for row, (_, label) in enumerate(rows, 1):
            if label and label not in (known_labels or ()):
                places[label].append((part, row))
    for label, found in places.items():
        message = (
            f"Label {label!r} is unknown, in {_count(len(found), 'row')}: {_name(found)}. "
            f"The configuration has {', '.join(known_labels or ()) or 'none'}: add it there, or mend the rows."
        )
        yield Finding("unknown label", "error", message, tuple(found))


def _rare(
    trained: Mapping[str, int],
    counts: Mapping[str, Mapping[str, int]],
    known_labels: Collection[str] | None,
    min_rows_per_label: int,
    train: str,
) -> Iterator[Finding]:
    labels = {label for of_part in counts.values() for label in of_part} | set(known_labels or ())
    absent = sorted(label for label in labels if not trained.get(label))
    if absent and train in counts:
        message = f"The {train} part has no row of {_some(absent)}: such labels cannot be learned."
        yield Finding("absent label", "warning", message)
    rare = sorted((num, label) for label, num in trained.items() if num < min_rows_per_label)
    if rare:
        named = _some([f"{label} ({num})" for num, label in rare])
        message = f"Labels with fewer than {min_rows_per_label} rows in the {train} part: {named}. Collect more."
        yield Finding("rare label", "warning", message)
    if trained and max(trained.values()) >= IMBALANCE * min(trained.values()):
        most, least = max(trained, key=trained.__getitem__), min(trained, key=trained.__getitem__)
        message = (
            f"The {train} part has {trained[most]:,} rows of {most} and {trained[least]:,} of {least}: "
            "look at macro-F1 and at each class, not at accuracy."
        )
        yield Finding("imbalance", "warning", message)


def _contradictions(parts: Mapping[str, Table], places: Mapping[str, Sequence[Place]]) -> Iterator[Finding]:
    found = []
    for same in places.values():
        if len(same) > 1 and len({parts[part][row - 1][1] for part, row in same} - {""}) > 1:
            found.append(same)
    if found:
        pairs = "; ".join(f"{_name(same)} ({_labels(parts, same)})" for same in found[:SHOWN_ROWS])
        message = f"With several labels: {_count(len(found), 'text')}: {pairs}{_more(len(found))}. Decide on one."
        yield Finding("contradiction", "warning", message, tuple(place for same in found for place in same))


def _labels(parts: Mapping[str, Table], places: Sequence[Place]) -> str:
    return " / ".join(dict.fromkeys(parts[part][row - 1][1] for part, row in places))


def _duplicates(places: Mapping[str, Sequence[Place]], train: str, test: str) -> Iterator[Finding]:
    within: dict[str, list[Place]] = collections.defaultdict(list)
    across: dict[tuple[str, str], list[Place]] = collections.defaultdict(list)
    for same in places.values():
        first: dict[str, Place] = {}
        for part, row in same:
            if part in first:
                within[part].append((part, row))
            first.setdefault(part, (part, row))
        for pair in combinations(first, 2):
            across[pair] += [first[part] for part in pair]
    for pair, found in across.items():
        is_leak = set(pair) == {train, test}
        message = (
            f"In both the {pair[0]} and the {pair[1]} part: {_count(len(found) // 2, 'text')}: {_name(found)}. "
            f"{f'Drop them from the {train} part' if is_leak else 'Figures of either may flatter'}."
        )
        yield Finding("leak" if is_leak else "duplicate", "error" if is_leak else "warning", message, tuple(found))
    for part, found in within.items():
        message = f"Repeats of an earlier text in the {part} part: {_count(len(found), 'row')}: {_name(found)}."
        yield Finding("duplicate", "warning", message, tuple(found))


def _near_duplicates(parts: Mapping[str, Table], places: Mapping[str, Sequence[Place]]) -> Iterator[Finding]:
    alike: dict[str, dict[str, tuple[Place, str]]] = collections.defaultdict(dict)  # letters -> part -> first, its text
    for text, same in places.items():
        letters = NOT_LETTERS.sub(" ", LINK.sub(" ", text)).strip()
        for part, row in same if letters else ():
            alike[letters].setdefault(part, ((part, row), text))
    found: dict[tuple[str, str], list[Place]] = collections.defaultdict(list)
    for by_part in alike.values():
        for pair in combinations(by_part, 2):
            (first, text), (second, other) = by_part[pair[0]], by_part[pair[1]]
            if text != other:
                found[pair] += [first, second]
    for pair, near in found.items():
        message = (
            f"Alike in the {pair[0]} and the {pair[1]} part but for numbers, links or punctuation: "
            f"{_count(len(near) // 2, 'text')}: {_name(near)}."
        )
        yield Finding("near-duplicate", "warning", message, tuple(near))


def _name(places: Sequence[Place]) -> str:
    named = ", ".join(f"{part} row {row}" for part, row in places[:SHOWN_ROWS])
    return named + _more(len(places))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN_ROWS]) + _more(len(names))


def _more(num: int) -> str:
    return f", and {num - SHOWN_ROWS:,} more" if num > SHOWN_ROWS else ""


def _count(num: int, what: str) -> str:
    return f"1 {what}" if num == 1 else f"{num:,} {what}s"
