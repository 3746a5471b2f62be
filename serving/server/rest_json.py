"""How is JSON read and printed? By the grammar, the complaints and the layout of RapidJSON, as in the stock server.

Python's own scanner reads what is surely fine, at C's speed; whatever it refuses, and numbers and escapes that the two
may take differently, goes through a reader that follows RapidJSON's grammar step by step and knows its complaints.
Bytes that are not UTF-8 pass through both unchanged, as lone surrogates (`surrogateescape`).
"""

import json
import math
import re
from decimal import Decimal
from typing import Any, NoReturn

import numpy as np

from serving.server.status import invalid

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# What Python and RapidJSON may take differently: halves of surrogate pairs, and numbers near the end of a double.
_DOUBTFUL = (re.compile(rb"\\u[dD][89a-fA-F]"), re.compile(rb"[eE]\+?[0-9]{3}"))
_LONG_NUMBER = b"0" * 200
_ALL_DIGITS_ZERO = bytes.maketrans(b"123456789", b"0" * 9)
_PLAIN = re.compile(r'[^"\\\x00-\x1f]+')
_SPACE = re.compile(r"[ \t\r\n]*")
_DIGITS = re.compile(r"[0-9]*")
_HEX = re.compile(r"[0-9a-fA-F]{4}")
_SPECIAL = re.compile(r'["\\\x00-\x1f]')
_UNESCAPED = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_ESCAPED = {character: f"\\{letter}" for letter, character in _UNESCAPED.items() if letter != "/"}
_INT64_MIN, _UINT64_MAX = -(2**63), 2**64 - 1
_FLOAT_MAX = float(np.finfo(np.float32).max)


def parse(body: bytes) -> dict[str, Any]:
    """The object that a request's body holds; of a repeated key the first counts.

    Raises:
      StatusError: INVALID_ARGUMENT with RapidJSON's complaint and the offset in bytes.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    skipped = len(_BYTE_ORDER_MARK) if body.startswith(_BYTE_ORDER_MARK) else 0
    text = body[skipped:].decode("utf-8", "surrogateescape")
    try:
        value = _read(text, skipped, _is_doubtful(body))
        if not isinstance(value, dict):
            raise invalid(f"JSON Value: {value_text(value)} Is not object")
    except RecursionError as error:
        raise invalid("JSON Parse error: lists or objects are nested too deeply for this server") from error
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


def encoded(text: str) -> bytes:
    """Text as it goes over the wire."""
    return text.encode("utf-8", "surrogateescape")


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
        try:
            return _DECODER.decode(text)
        except ValueError:  # also a number of more digits than Python converts
            pass
    return _Reader(text, skipped).document()


def _first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        for key, value in reversed(pairs):
            found[key] = value
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_first_wins)


class _Reader:
    """RapidJSON's grammar with NaN and Infinity; the end of the text reads as a zero character, as it does there."""

    def __init__(self, text: str, skipped: int) -> None:
        self._text, self._skipped, self._position = text, skipped, 0

    def document(self) -> Any:
        self._space()
        if self._peek() == "\0":
            self._complain("The document is empty.")
        value = self._value()
        self._space()
        if self._peek() != "\0":
            self._complain("The document root must not be followed by other values.")
        return value

    def _value(self) -> Any:
        first = self._peek()
        if first == "{":
            return self._object()
        if first == "[":
            return self._array()
        if first == '"':
            return self._string()
        for word, value in (("null", None), ("true", True), ("false", False)):
            if first == word[0]:
                self._word(word)
                return value
        return self._number()

    def _object(self) -> dict[str, Any]:
        self._position += 1
        self._space()
        pairs: list[tuple[str, Any]] = []
        if self._consume("}"):
            return {}
        while True:
            if self._peek() != '"':
                self._complain("Missing a name for object member.")
            key = self._string()
            self._space()
            if not self._consume(":"):
                self._complain("Missing a colon after a name of object member.")
            self._space()
            pairs.append((key, self._value()))
            self._space()
            if self._consume("}"):
                return _first_wins(pairs)
            if not self._consume(","):
                self._complain("Missing a comma or } after an object member.")
            self._space()

    def _array(self) -> list[Any]:
        self._position += 1
        self._space()
        items: list[Any] = []
        if self._consume("]"):
            return items
        while True:
            items.append(self._value())
            self._space()
            if self._consume("]"):
                return items
            if not self._consume(","):
                self._complain("Missing a comma or ] after an array element.")
            self._space()

    def _string(self) -> str:
        self._position += 1
        parts: list[str] = []
        while True:
            plain = _PLAIN.match(self._text, self._position)
            if plain:
                parts.append(plain[0])
                self._position = plain.end()
            if self._consume('"'):
                return "".join(parts)
            if self._peek() == "\\":
                parts.append(self._escape())
            elif self._peek() == "\0":
                self._complain("Missing a closing quotation mark in string.")
            else:
                self._complain("Invalid encoding in string.")

    def _escape(self) -> str:
        start = self._position
        self._position += 1
        letter = self._peek()
        if letter in _UNESCAPED:
            self._position += 1
            return _UNESCAPED[letter]
        if letter != "u":
            self._complain("Invalid escape character in string.", start)
        code = self._hex(start)
        if 0xD800 <= code < 0xE000:
            if code >= 0xDC00 or self._peek() != "\\":
                self._complain("The surrogate pair in string is invalid.", start)
            self._position += 1
            if self._peek() != "u":
                self._complain("The surrogate pair in string is invalid.", start)
            low = self._hex(start)
            if not 0xDC00 <= low < 0xE000:
                self._complain("The surrogate pair in string is invalid.", start)
            code = ((code - 0xD800) << 10 | (low - 0xDC00)) + 0x10000
        return chr(code)

    def _hex(self, start: int) -> int:
        found = _HEX.match(self._text, self._position + 1)
        if not found:
            self._complain("Incorrect hex digit after \\u escape in string.", start)
        self._position = found.end()
        return int(found[0], 16)

    def _number(self) -> int | float:
        start = self._position
        is_negative = self._consume("-")
        if self._peek() in ("N", "I"):
            return self._nan_or_infinity(is_negative)
        if not self._consume("0") and not self._digits():
            self._complain("Invalid value.")
        is_integer = True
        if self._consume("."):
            is_integer = False
            if not self._digits():
                self._complain("Miss fraction part in number.")
        if self._peek() in ("e", "E"):
            is_integer = False
            self._position += 1
            if not self._consume("+"):
                self._consume("-")
            if not self._digits():
                self._complain("Miss exponent in number.")
        text = self._text[start : self._position]
        if is_integer and len(text) <= 20:
            return int(text)
        if not math.isfinite(float(text)):
            self._complain("Number too big to be stored in double.", start)
        return float(text)

    def _nan_or_infinity(self, is_negative: bool) -> float:
        if self._peek() == "N":
            self._word("NaN")
            return math.nan
        self._word("Inf")
        if self._peek() == "i":
            self._word("inity")
        return -math.inf if is_negative else math.inf

    def _word(self, word: str) -> None:
        for letter in word:
            if not self._consume(letter):
                self._complain("Invalid value.")

    def _digits(self) -> bool:
        found = _DIGITS.match(self._text, self._position)
        assert found is not None, "the pattern matches nothing too"
        self._position = found.end()
        return bool(found[0])

    def _space(self) -> None:
        found = _SPACE.match(self._text, self._position)
        assert found is not None, "the pattern matches nothing too"
        self._position = found.end()

    def _peek(self) -> str:
        return self._text[self._position] if self._position < len(self._text) else "\0"

    def _consume(self, character: str) -> bool:
        if self._peek() != character:
            return False
        self._position += 1
        return True

    def _complain(self, complaint: str, position: int | None = None) -> NoReturn:
        end = self._position if position is None else position
        offset = self._skipped + len(encoded(self._text[:end]))
        raise invalid(f"JSON Parse error: {complaint} at offset: {offset}")
