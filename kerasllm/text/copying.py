"""How does a reply only copy its numbers and codes? Scores of tokens that would write others are lowered, in-graph."""

# B rows, U values of a row, M bytes of the longest, V vocabulary, N pieces of it, L bytes of a text, R ways to go on

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from kerasllm.text.forbidden import FORBIDDEN
from kerasllm.text.foreign_digits import completes_foreign_digit, has_foreign_digit
from kerasllm.text.interface import Tokenizer
from kerasllm.text.sizes import written
from kerasllm.text.values import JOINTS, SIGNS

_JOINTS = JOINTS.encode()
_IN_RUN = np.array(
    [chr(byte).isascii() and (chr(byte).isalnum() or chr(byte) in SIGNS + JOINTS) for byte in range(256)]
)
_IS_JOINT = np.array([byte in _JOINTS for byte in range(256)])
_MAKES_VALUE = np.array([chr(byte) in "0123456789@" for byte in range(256)])


class _Pieces(NamedTuple):
    """Beginnings of tokens as bytes: padded [N, width], whole sizes [N], and sizes without joints at the end [N]."""

    spelled: np.ndarray
    sizes: np.ndarray
    cores: np.ndarray

    @classmethod
    def of(cls, parts: Sequence[bytes]) -> "_Pieces":
        width = max([1, *map(len, parts)])
        spelled = np.array([list(part.ljust(width, b"\0")) for part in parts], np.uint8).reshape(len(parts), width)
        sizes = np.array([len(part) for part in parts], np.int32)
        return cls(spelled, sizes, np.array([len(part.rstrip(_JOINTS)) for part in parts], np.int32))

    def chosen(self, places: np.ndarray) -> "_Pieces":
        return _Pieces(*(column[places] for column in self))


class _Table:
    """What each token of a vocabulary [V] does to the run of characters that a text ends with.

    Attributes:
      heads, bare_heads: what it adds to that run, and the same at the beginning of a run.
      tails: the run that it begins behind that.
      goes_on: the run is still open behind it.
      head_has_value, tail_has_value: a digit or "@" is in these.
      is_end: it ends the reply.
      is_never: writes nothing, or has a whole value in its middle, or a digit that is not plain.
    """

    def __init__(self, pieces: Sequence[bytes], end: int) -> None:
        cut = [_runs(piece) for piece in pieces]
        heads, tails = [runs[0] for runs in cut], [runs[-1] if len(runs) > 1 else b"" for runs in cut]
        self.heads, self.bare_heads = _Pieces.of(heads), _Pieces.of([head.lstrip(_JOINTS) for head in heads])
        self.tails = _Pieces.of([tail.lstrip(_JOINTS) for tail in tails])
        self.is_end = np.arange(len(pieces)) == end
        self.goes_on = np.array([len(runs) == 1 for runs in cut]) & ~self.is_end
        self.head_has_value, self.tail_has_value = (
            np.array([*map(_has_value, heads)]),
            np.array([*map(_has_value, tails)]),
        )
        self.is_never = np.array(
            [
                not piece or any(map(_has_value, runs[1:-1])) or has_foreign_digit(piece.decode("utf-8", "ignore"))
                for piece, runs in zip(pieces, cut, strict=True)
            ]
        ) & (~self.is_end)


def copy_only(tokenizer: Tokenizer, values: Any, starts: Any) -> Callable[[Any, Any, Any], Any]:
    """A function (logits [B, V], token_ids [B, S], lengths [B]) -> logits [B, V] for the next token of each row.

    A run of letters, digits and signs that holds a digit or "@" can only be one of the row's values, from its first
    character to its last: it can neither begin otherwise, nor go on otherwise, nor end before. Joints (a full stop, a
    comma) may follow it. Bytes are compared, so that it does not matter which tokens a value is put together from.
    Where no token is left, the row ends. Digits in another form than the plain one never come.

    Args:
      tokenizer: of the model.
      values: [B, U] string, as kerasllm.text.values.copyable_values finds them; an empty one is none.
      starts: [B] int32, tokens before them are the prompt, which is not looked at.
    """
    pieces, end = written(tokenizer), tokenizer.special.eos
    table = _Table(pieces, end)
    valued = np.flatnonzero(table.head_has_value)
    completes = completes_foreign_digit(pieces)
    sizes = tf.strings.length(values)
    longest = tf.maximum(tf.reduce_max(sizes), 1)
    spelled = tf.io.decode_raw(values, tf.uint8, fixed_length=longest)  # [B, U, M]
    all_ways = _Ways.of(sizes > 0, spelled, sizes, tf.zeros_like(sizes))
    at_start = all_ways.matches(table.bare_heads.chosen(valued), table.goes_on[valued], tf.shape(values)[0])
    begins = _spread(at_start, valued, table.head_has_value)  # [B, V], where no run is open
    tailed = np.flatnonzero(table.tail_has_value)
    behind = all_ways.matches(table.tails.chosen(tailed), np.ones(len(tailed), bool), tf.shape(values)[0])
    always = _spread(behind, tailed, table.tail_has_value) & ~table.is_never

    def lower(logits: Any, token_ids: Any, lengths: Any) -> Any:
        columns = tf.range(tf.shape(token_ids)[1])
        is_said = (columns >= starts[:, None]) & (columns < lengths[:, None])
        text = tf.strings.reduce_join(tf.where(is_said, tf.gather(tf.constant(pieces), token_ids), b""), axis=-1)
        run = _open_run(text, longest)
        ways = run.ways_on(spelled, sizes)
        batch = tf.shape(logits)[0]

        def of_all() -> Any:
            is_free = ~(run.has_value[:, None] | table.head_has_value)
            return is_free | ways.matches(table.heads, table.goes_on, batch)

        def of_valued() -> Any:
            return _spread(
                ways.matches(table.heads.chosen(valued), table.goes_on[valued], batch), valued, table.head_has_value
            )

        goes_well = tf.cond(tf.reduce_any(run.has_value), of_all, of_valued)
        is_allowed = tf.where((run.size > 0)[:, None], goes_well, begins) & always & ~completes(text)
        is_allowed |= ~tf.reduce_any(is_allowed, axis=1, keepdims=True) & table.is_end
        return tf.ensure_shape(tf.where(is_allowed, logits, FORBIDDEN), logits.shape)

    return lower


class _Ways(NamedTuple):
    """How runs may go on: of each way its row [R], the bytes left [R, M], and how many [R]."""

    row: Any
    left: Any
    sizes: Any

    @classmethod
    def of(cls, is_one: Any, spelled: Any, sizes: Any, done: Any) -> "_Ways":
        """The values [B, U] that are a way, of which `done` bytes [B, U] are written."""
        place = tf.where(is_one)
        written_bytes, whole = tf.gather_nd(done, place), tf.gather_nd(spelled, place)
        width = tf.shape(whole)[1]
        columns = tf.minimum(written_bytes[:, None] + tf.range(width), width - 1)
        left = tf.gather(whole, columns, batch_dims=1)
        return cls(tf.cast(place[:, 0], tf.int32), left, tf.gather_nd(sizes, place) - written_bytes)

    def matches(self, pieces: _Pieces, goes_on: np.ndarray, batch: Any) -> Any:
        """Which pieces follow a way: [B, N] bool.

        One that goes on may be a beginning of what is left, or all of it and joints; one behind which the run ends has
        to be all of it, joints aside.
        """
        width = pieces.spelled.shape[1]
        left = tf.pad(self.left, [[0, 0], [0, width]])[:, :width]
        agree = (left[:, None] == pieces.spelled) | (np.arange(width) >= pieces.cores[:, None])
        core_agrees = tf.reduce_all(agree, axis=-1)  # [R, N]
        agree = (left[:, None] == pieces.spelled) | (np.arange(width) >= pieces.sizes[:, None])
        is_beginning = tf.reduce_all(agree, axis=-1) & (pieces.sizes <= self.sizes[:, None])
        is_whole = core_agrees & (pieces.cores == self.sizes[:, None])
        follows = is_whole | (is_beginning & goes_on)
        return tf.math.unsorted_segment_max(tf.cast(follows, tf.int32), self.row, batch) > 0


class _Run(NamedTuple):
    """The run of characters that each text ends with, without joints at its beginning.

    Attributes:
      spelled: [B, M] uint8, its first bytes.
      size: [B] int32.
      core: [B] int32, its size without joints at its end.
      has_value: [B] bool, a digit or "@" is in it.
    """

    spelled: Any
    size: Any
    core: Any
    has_value: Any

    def ways_on(self, spelled: Any, sizes: Any) -> _Ways:
        """How it may go on to one of the values [B, U]: their bytes [B, U, M], their sizes [B, U]."""
        columns = tf.range(tf.shape(spelled)[2])
        agree = self.spelled[:, None] == spelled

        def begins_with(size: Any) -> Any:
            return tf.reduce_all(agree | (columns >= size[:, None, None]), axis=-1)

        is_begun = begins_with(self.size) & (self.size[:, None] <= sizes)
        is_whole = begins_with(self.core) & (self.core[:, None] == sizes)
        is_way = (is_begun | is_whole) & (sizes > 0) & (self.size > 0)[:, None]
        return _Ways.of(is_way, spelled, sizes, tf.where(is_begun, self.size[:, None], sizes))


def _open_run(text: Any, longest: Any) -> _Run:
    """The run at the end of each text [B]; its first `longest` bytes."""
    sizes = tf.strings.length(text)
    room = tf.maximum(tf.reduce_max(sizes), 1)
    spelled = tf.cast(tf.io.decode_raw(text, tf.uint8, fixed_length=room), tf.int32)  # [B, L]
    columns = tf.range(room)
    is_there = columns < sizes[:, None]
    is_outside = is_there & ~tf.gather(tf.constant(_IN_RUN), spelled)
    first = tf.reduce_max(tf.where(is_outside, columns + 1, 0), axis=1)
    is_inner = is_there & ~tf.gather(tf.constant(_IS_JOINT), spelled) & (columns >= first[:, None])
    first = tf.reduce_min(tf.where(is_inner, columns, sizes[:, None]), axis=1)
    last = tf.reduce_max(tf.where(is_inner, columns + 1, first[:, None]), axis=1)
    makes_value = tf.gather(tf.constant(_MAKES_VALUE), spelled) & is_inner
    beginning = tf.gather(spelled, tf.minimum(first[:, None] + tf.range(longest), room - 1), batch_dims=1)
    return _Run(tf.cast(beginning, tf.uint8), sizes - first, last - first, tf.reduce_any(makes_value, axis=1))


def _spread(is_allowed: Any, places: np.ndarray, is_bound: np.ndarray) -> Any:
    """[B, N] bool of the tokens at `places` -> [B, V]; all others are allowed."""
    if not len(places):
        return tf.ones([tf.shape(is_allowed)[0], len(is_bound)], tf.bool)
    column = np.zeros(len(is_bound), np.int32)
    column[places] = np.arange(len(places))
    return tf.gather(is_allowed, column, axis=1) | ~is_bound


def _runs(piece: bytes) -> list[bytes]:
    """The runs of a token, between bytes that belong to none; those at its ends may be empty."""
    runs = [b""]
    for byte in piece:
        if _IN_RUN[byte]:
            runs[-1] += bytes([byte])
        else:
            runs.append(b"")
    return runs


def _has_value(run: bytes) -> bool:
    return any(_MAKES_VALUE[byte] for byte in run)
