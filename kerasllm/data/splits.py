"""Which rows say the same, and in which part does each stand? Equal texts together, whatever their order."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar

RowType = TypeVar("RowType")


def normal_form(text: str) -> str:
    """What equal texts have in common: letter case and white space do not count."""
    return " ".join(text.casefold().split())


def text_key(text: str) -> str:
    """A hash, 64 hexadecimal digits, that equal texts share: see normal_form."""
    return hashlib.sha256(normal_form(text).encode()).hexdigest()


def split_by_text(
    rows: Iterable[RowType],
    text_of: Callable[[RowType], str],
    shares: Mapping[str, float],
    without: Collection[str] = (),
) -> dict[str, list[RowType]]:
    """Deals rows to parts by a hash of their text; a row's part depends on nothing else.

    Of equal texts the first row is kept.

    Args:
      rows: of any type.
      text_of: the text of a row.
      shares: part -> share of the texts, in the order in which the hash is dealt; what is left goes to "train".
      without: texts whose rows are left out, such as those of a given test part.

    Returns: part -> rows in their order; "train" comes first.
    """
    parts: dict[str, list[RowType]] = {"train": [], **{part: [] for part in shares}}
    seen = {text_key(text) for text in without}
    for row in rows:
        key = text_key(text_of(row))
        if key not in seen:
            seen.add(key)
            parts[_part(int(key[:8], 16) / 16**8, shares)].append(row)
    return parts


def drop_shared(rows: Sequence[RowType], text_of: Callable[[RowType], str], without: Iterable[str]) -> list[RowType]:
    """The rows whose text is none of `without`: training rows that do not stand in the test part."""
    keys = {text_key(text) for text in without}
    return [row for row in rows if text_key(text_of(row)) not in keys]


def _part(draw: float, shares: Mapping[str, float]) -> str:
    end = 0.0
    for part, share in shares.items():
        end += share
        if draw < end:
            return part
    return "train"
