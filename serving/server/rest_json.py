"""How is JSON read and printed? By the grammar, the complaints and the layout of RapidJSON, as in the stock server.

Python's own scanner reads what is surely fine, at C's speed; whatever it refuses, and numbers and escapes that the two
may take differently, goes through a reader that follows RapidJSON's grammar step by step and knows its complaints.
Bytes that are not UTF-8 pass through both unchanged, as lone surrogates (`surrogateescape`).
"""

import json
import math
import re
from contextlib import suppress
from decimal import Decimal
from typing import Any

import numpy as np

from serving.server.rest_json_reader import UNESCAPED, Reader, first_wins
from serving.server.status import invalid

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# What Python and RapidJSON may take differently: halves of surrogate pairs, and numbers near the end of a double.
_DOUBTFUL = (re.compile(rb"\\u[dD][89a-fA-F]"), re.compile(rb"[eE]\+?[0-9]{3}"))
_LONG_NUMBER = b"0" * 200
_ALL_DIGITS_ZERO = bytes.maketrans(b"123456789", b"0" * 9)
_SPECIAL = re.compile(r'["\\\x00-\x1f]')
_ESCAPED = {character: f"\\{letter}" for letter, character in UNESCAPED.items() if letter != "/"}
_INT64_MIN, _UINT64_MAX = -(2**63), 2**64 - 1
_FLOAT_MAX = float(np.finfo(np.float32).max)


def parse(body: bytes) -> dict[str, Any]:
    """The object that a request's body holds; of a repeated key the first counts.

    Raises:
      StatusError: INVALID_ARGUMENT with RapidJSON's complaint and the offset in bytes.
      RecursionError: it is nested too deeply for Python.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    skipped = len(_BYTE_ORDER_MARK) if body.startswith(_BYTE_ORDER_MARK) else 0
    text = body[skipped:].decode("utf-8", "surrogateescape")
    value = _read(text, skipped, _is_doubtful(body))
    if not isinstance(value, dict):
        raise invalid(f"JSON Value: {value_text(value)} Is not object")
    return value


def value_text(value: Any) -> str:
    """A value as the stock server prints it in complaints."""
    if type(value) is int and not _INT64_MIN <= value <= _UINT64_MAX:
        value = float(value)
    if isinstance(value, float):
        fits_float = abs(value) <= _FLOAT_MAX or not math.isfinite(value)
        return decimal_texts(np.array([value], np.float32 if fits_float else np.float64))[0]
    return _pretty(value, 0)


def quoted(text: str) -> str:
    """A string in quotation marks; only what must be escaped is."""
    if _SPECIAL.search(text):
        text = _SPECIAL.sub(lambda found: _ESCAPED.get(found[0]) or f"\\u{ord(found[0]):04X}", text)
    return f'"{text}"'


def decimal_texts(numbers: np.ndarray) -> list[str]:
    """Floating-point numbers with six digits if these are enough to read the same number back, else with all digits."""
    kind = np.float64 if numbers.dtype == np.float64 else np.float32
    flat = numbers.reshape(-1).astype(kind)
    digits = ".17g" if kind is np.float64 else ".9g"
    values = flat.tolist()
    texts = [f"{value:g}" for value in values]
    with np.errstate(over="ignore"):
        is_exact = (np.array(texts, np.float64).astype(kind) == flat).tolist() if texts else []
    return [
        _with_point(text if exact else f"{value:{digits}}") if math.isfinite(value) else _not_finite(value)
        for text, exact, value in zip(texts, is_exact, values, strict=True)
    ]


def block(items: list[str], depth: int, brackets: str = "[]") -> str:
    """A list or an object with an item on each line; `depth` counts the lists and objects around it, and itself."""
    if not items:
        return brackets
    inner = "\n" + 4 * depth * " "
    return f"{brackets[0]}{inner}{f',{inner}'.join(items)}\n{4 * (depth - 1) * ' '}{brackets[1]}"


def _with_point(text: str) -> str:
    return text if "." in text or "e" in text else f"{text}.0"


def _not_finite(value: float) -> str:
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _pretty(value: Any, depth: int) -> str:
    if isinstance(value, dict):
        items = [f"{quoted(key)}: {_pretty(item, depth + 1)}" for key, item in value.items()]
        return block(items, depth + 1, "{}")
    if isinstance(value, list):
        return block([_pretty(item, depth + 1) for item in value], depth + 1)
    if isinstance(value, str):
        return quoted(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if type(value) is int and _INT64_MIN <= value <= _UINT64_MAX:
        return str(value)
    return _shortest(float(value))


def _shortest(value: float) -> str:
    """A double inside a printed list or object: plain up to 21 places, then with an exponent that has no `+`."""
    if not math.isfinite(value):
        return _not_finite(value)
    text = repr(value)
    mantissa, _, exponent = text.partition("e")
    if exponent and -7 < int(exponent) < 21:
        text = f"{Decimal(text):f}"
        return text if "." in text else f"{text}.0"
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}" if exponent else mantissa


def _is_doubtful(body: bytes) -> bool:
    return any(pattern.search(body) for pattern in _DOUBTFUL) or _LONG_NUMBER in body.translate(_ALL_DIGITS_ZERO)


def _read(text: str, skipped: int, is_doubtful: bool) -> Any:
    if not is_doubtful:
        with suppress(ValueError):  # also a number of more digits than Python converts
            return _DECODER.decode(text)
    return Reader(text, skipped).document()


_DECODER = json.JSONDecoder(object_pairs_hook=first_wins)
