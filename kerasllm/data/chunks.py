"""How are the sentences of a document gathered into rows, and where is a row parted into A and B?"""

import bisect
from collections.abc import Iterator

import numpy as np

Chunk = tuple[int, int, int, bool, bool]  # start, lengths of a and b, whether b is to be wrong, whether it is a pair
LEAST_PART = 8  # tokens that a part has at least where sentences may be cut and their borders allow it


class Draws:
    """Random numbers one at a time without the cost of one call each, and labels that are balanced two by two."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        self._numbers: list[float] = []
        self._label: bool | None = None

    def uniform(self) -> float:
        """In [0, 1)."""
        if not self._numbers:
            self._numbers = self._random.random(4096).tolist()
        return self._numbers.pop()

    def label(self) -> bool:
        """Of each two one is True."""
        if self._label is None:
            self._label = self.uniform() < 0.5
            return self._label
        second, self._label = not self._label, None
        return second


def gather(addresses: list[int], pairs_allowed: bool, room: int, draws: Draws, cut: bool) -> Iterator[Chunk]:
    """The chunks of a document; the B of one that is to be wrong is the beginning of the next chunk.

    Args:
      addresses: at which the document's sentences begin, and at which the last one ends.
      pairs_allowed: chunks of two sentences or more may be pairs.
      room: tokens of a chunk at most.
      draws: random numbers.
      cut: chunks go on to the end of the row.
    """
    begin, document_end = addresses[0], addresses[-1]
    while begin < document_end:
        end = min(begin + room, document_end)
        if end < document_end:
            end = max(begin + 1, min(end, document_end - LEAST_PART)) if cut else _last_border(addresses, end)
        chunk = _parted(addresses, begin, end, pairs_allowed, draws, LEAST_PART if cut else 1)
        yield chunk
        begin = chunk[0] + chunk[1] if chunk[3] else end


def gather_in_order(addresses: list[int], pairs_allowed: bool, room: int, draws: Draws, cut: bool) -> Iterator[Chunk]:
    """The chunks of a document for sentence order; see `gather`. With `cut` the rest of a row is filled, too.

    A sentence that does not fit any more is a long one, and with it the next chunk would begin: longer first parts than
    second ones would tell the order. So every second document is gathered from its end. The rest of a row is filled
    with the beginning of that sentence, and its end fills a row elsewhere; neither is part of a pair.
    """
    whole = addresses[0] + addresses[-1]
    is_mirrored = draws.label()
    if is_mirrored:
        addresses = [whole - address for address in reversed(addresses)]
    begin, chunks = addresses[0], []
    while begin < addresses[-1]:
        end = _last_border(addresses, begin + room)
        chunks.append(_parted(addresses, begin, end, pairs_allowed, draws, 1))
        begin = end
        if cut and end < addresses[-1]:
            following = addresses[bisect.bisect_right(addresses, end)]
            middle = min(begin + room - (end - chunks[-1][0]) - 2, following - LEAST_PART)
            if middle - end >= LEAST_PART:
                chunks += [(end, middle - end, 0, False, False), (middle, following - middle, 0, False, False)]
                begin = following
    if not is_mirrored:
        return iter(chunks)
    return (
        (whole - begin - a - b, b if has_pair else a, a if has_pair else b, is_wrong, has_pair)
        for begin, a, b, is_wrong, has_pair in chunks
    )


def _last_border(addresses: list[int], end: int) -> int:
    """The last border of sentences that is not after `end`."""
    return addresses[bisect.bisect_right(addresses, end) - 1]


def _parted(addresses: list[int], begin: int, end: int, may_pair: bool, draws: Draws, least: int) -> Chunk:
    """A chunk, parted at a random border if it may be a pair and has one inside."""
    low, high = _inner_borders(addresses, begin, end, least)
    has_pair = may_pair and low < high
    middle = addresses[low + int(draws.uniform() * (high - low))] if has_pair else end
    # After a wrong chunk one begins with a sentence. Where others do not, that would tell a label that others balance.
    is_wrong = has_pair and (draws.label() if least == 1 else draws.uniform() < 0.5)
    return begin, middle - begin, end - middle, is_wrong, has_pair


def _inner_borders(addresses: list[int], begin: int, end: int, least: int) -> tuple[int, int]:
    """First and last + 1 of the sentences that may begin a B: `least` tokens on both sides, or else one."""
    low, high = bisect.bisect_left(addresses, begin + least), bisect.bisect_right(addresses, end - least)
    return (low, high) if low < high or least == 1 else _inner_borders(addresses, begin, end, 1)
