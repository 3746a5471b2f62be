"""What is wrong with a JSON document? RapidJSON's grammar, step by step, with its complaints and their offsets."""

import math
import re
from typing import Any, NoReturn

from serving.server.status import invalid

_PLAIN = re.compile(r'[^"\\\x00-\x1f]+')
_SPACE = re.compile(r"[ \t\r\n]*")
_DIGITS = re.compile(r"[0-9]*")
_HEX = re.compile(r"[0-9a-fA-F]{4}")
UNESCAPED = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def encoded(text: str) -> bytes:
    """Text as it goes over the wire."""
    return text.encode("utf-8", "surrogateescape")


def first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object with these members; of a repeated key the first counts."""
    found = dict(pairs)
    if len(found) != len(pairs):
        for key, value in reversed(pairs):
            found[key] = value
    return found


class Reader:
    """RapidJSON's grammar with NaN and Infinity; the end of the text reads as a zero character, as it does there.

    `skipped`: the bytes before the text, which count in the offsets of complaints.
    """

    def __init__(self, text: str, skipped: int) -> None:
        self._text, self._skipped, self._position = text, skipped, 0

    def document(self) -> Any:
        """The value that the text holds.

        Raises:
          StatusError: INVALID_ARGUMENT with the complaint and its offset.
        """
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
                return first_wins(pairs)
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
        if letter in UNESCAPED:
            self._position += 1
            return UNESCAPED[letter]
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
