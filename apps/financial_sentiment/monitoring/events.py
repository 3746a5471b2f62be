"""What is one line of the input? A text with its time, or a line that is refused with a reason."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

MAX_LINE_BYTES = 1 << 20
MAX_FUTURE_S = 3600.0  # a clock that is further ahead is wrong, and would close every window


class BadLine(ValueError):
    """A line that is no event; its text is the reason."""


@dataclass(frozen=True, slots=True)
class Event:
    """A text and when it was written.

    Attributes:
      time: seconds since 1970, UTC.
      text: as received.
      topic: of the sender; None leaves it to the model.
      key: equal for copies of one event: from its id, or else from time and text.
    """

    time: float
    text: str
    topic: str | None
    key: str


def read_event(line: bytes, columns: Sequence[str] | None, now: float) -> Event:
    """Reads a line: JSON, or values separated by tabs if `columns` names them.

    Args:
      line: without its end.
      columns: header of a .tsv file; None for JSON.
      now: seconds since 1970; what lies more than an hour after it is refused.

    Raises:
      BadLine: with the reason.
    """
    if len(line) > MAX_LINE_BYTES:
        raise BadLine(f"longer than {MAX_LINE_BYTES:,} bytes")
    try:
        content = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadLine(f"not UTF-8 at byte {error.start}") from None
    fields = _json_fields(content) if columns is None else _tsv_fields(content, columns)
    text, topic, name = fields.get("text"), fields.get("topic"), fields.get("id")
    if not isinstance(text, str) or not text.strip():
        raise BadLine("no text" if text is None else "text is empty or no string")
    if topic is not None and not isinstance(topic, str):
        raise BadLine(f"topic is a {type(topic).__name__}, not a string")
    time = _seconds(fields.get("time"))
    if time > now + MAX_FUTURE_S:
        raise BadLine(f"time {fields['time']!r} lies in the future")
    source = f"{time!r} {text}" if name is None or name == "" else f"id {name}"
    key = hashlib.blake2b(source.encode("utf-8", "replace"), digest_size=8).hexdigest()
    return Event(time, text, topic or None, key)


def in_words(time: float) -> str:
    """A time (seconds since 1970) in ISO 8601, UTC."""
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _json_fields(content: str) -> dict[str, Any]:
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadLine(f"not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise BadLine(f"a {type(fields).__name__}, not an object")
    return fields


def _tsv_fields(content: str, columns: Sequence[str]) -> dict[str, Any]:
    values = content.split("\t")
    if len(values) != len(columns):
        raise BadLine(f"{len(values)} columns, the header has {len(columns)} ({', '.join(columns)})")
    return {name: value for name, value in zip(columns, values, strict=True) if value}


def _seconds(value: Any) -> float:
    """Seconds since 1970 of a number, or of ISO 8601; a time without a zone is UTC."""
    if value is None:
        raise BadLine("no time")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise BadLine(f"time {value!r} is neither ISO 8601 nor seconds since 1970")
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = datetime.fromisoformat(str(value))
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            raise BadLine(f"time {value!r} is neither ISO 8601 nor seconds since 1970") from None
    except OverflowError:
        raise BadLine("time is out of range") from None
    if not (math.isfinite(seconds) and 0 <= seconds < 253_402_300_800):  # up to the year 9999
        raise BadLine(f"time {value!r} is out of range (seconds since 1970, not milliseconds)")
    return seconds
