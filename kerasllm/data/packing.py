"""Which sequences share a row? Best fit over the histogram of their lengths, then a shuffled hand-out."""

# C sequences, R rows, S sequences of a row at most, L tokens of a row

import dataclasses

import numpy as np

from kerasllm.data.plans import PairPlan

Composition = tuple[int, ...]  # lengths of the sequences of a row
NEARLY = 1.001  # of the fewest rows: what the last tiny sequence is worth when places for it cost in every row


@dataclasses.dataclass(frozen=True)
class RowPlan:
    """Rows of BERT pretraining, in reading order of the epoch, of one or more sequences each.

    Attributes:
      sequences: C of them, row after row.
      borders: [R + 1] row r holds the sequences borders[r] to borders[r + 1].
    """

    sequences: PairPlan
    borders: np.ndarray

    def __len__(self) -> int:
        return len(self.borders) - 1


def one_a_row(sequences: PairPlan) -> RowPlan:
    """Each sequence has a row of its own."""
    return RowPlan(sequences, np.arange(len(sequences) + 1))


def sequences_a_row(sequences: PairPlan, length: int) -> int:
    """S: the least number of places for sequences in a row at which rows are as few as they can be, or 0.1 % more."""
    counts = np.bincount(_lengths(sequences), minlength=length + 1)
    fewest = _num_rows(counts, length)
    return next(most for most in range(1, length + 1) if _num_rows(counts, most) <= NEARLY * fewest)


def pack_rows(sequences: PairPlan, length: int, seed: int, epoch: int, most: int) -> RowPlan:
    """Packs the sequences of an epoch; arguments as of `deal_to_rows`."""
    order, borders = deal_to_rows(_lengths(sequences), length, seed, epoch, most)
    return RowPlan(sequences[order], borders)


def deal_to_rows(lengths: np.ndarray, length: int, seed: int, epoch: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Packs sequences into as few rows as it can, in random order; a function of its arguments alone.

    Args:
      lengths: [C] tokens of each sequence, special ones included, none above `length`.
      length: tokens of a row.
      seed: of the run.
      epoch: counted from 0.
      most: S, sequences of a row at most.

    Returns: the sequences row after row [C]; [R + 1] where in them each row begins.
    """
    random = np.random.default_rng([seed, epoch, 4])
    compositions = pack_lengths(np.bincount(lengths, minlength=length + 1), most)
    order = random.permutation(len(lengths))
    order = order[np.argsort(lengths[order], kind="stable")]  # those of one length stand together, shuffled
    unused = np.searchsorted(lengths[order], np.arange(length + 2))  # place of the next one of each length
    members = np.full((sum(compositions.values()), most), -1)
    row = 0
    for composition, count in compositions.items():
        for slot, tokens in enumerate(composition):
            members[row : row + count, slot] = order[unused[tokens] : unused[tokens] + count]
            unused[tokens] += count
        row += count
    members = random.permutation(members)
    borders = np.concatenate([np.zeros(1, np.int64), np.cumsum((members >= 0).sum(axis=1))])
    return members[members >= 0], borders


def pack_lengths(counts: np.ndarray, most: int) -> dict[Composition, int]:
    """Finds how many rows of which lengths hold all sequences: best fit decreasing, many rows at a time.

    The longest sequences come first; each goes where the least room is left that it fits into. Rows of the same
    lengths are one entry, so that the time depends on the lengths and not on how many sequences there are.

    Args:
      counts: [L + 1] sequences of each length.
      most: sequences of a row at most.

    Source: Krell et al. 2021, "Efficient Sequence Packing without Cross-contamination", section 3 (longest first).
    """
    longest = len(counts) - 1
    rooms: list[dict[Composition, int]] = [{} for _ in counts]  # room left -> rows of these lengths
    rooms[longest][()] = int(counts.sum())  # more empty rows than there can be need for
    for tokens in range(longest, 0, -1):
        left = int(counts[tokens])
        for room in range(tokens, longest + 1):
            for composition in [one for one in rooms[room] if len(one) < most]:
                left = _place(tokens, left, rooms, room, composition, most)
    del rooms[longest][()]
    return {composition: count for rows in rooms for composition, count in rows.items()}


def _lengths(sequences: PairPlan) -> np.ndarray:
    """Tokens [C] of the sequences, special ones included."""
    return sequences.length_a + 2 + np.where(sequences.length_b > 0, sequences.length_b + 1, 0)


def _num_rows(counts: np.ndarray, most: int) -> int:
    return sum(pack_lengths(counts, most).values())


def _place(
    tokens: int, left: int, rooms: list[dict[Composition, int]], room: int, composition: Composition, most: int
) -> int:
    """Puts sequences of one length into rows of one composition, as many as fit; returns how many are left."""
    fitting = min(room // tokens, most - len(composition))
    for each in (fitting, left % fitting):  # the rest shares a row too
        rows = min(rooms[room].get(composition, 0), left // each) if each else 0
        if rows:
            target, longer = rooms[room - each * tokens], composition + (tokens,) * each
            target[longer] = target.get(longer, 0) + rows
            rooms[room][composition] -= rows
            left -= rows * each
            if not rooms[room][composition] and composition:
                del rooms[room][composition]
    return left
