"""Which values does a customer's message hold, and how do they fill a reply? Typed slots, in plain Python and in-graph.

A reply speaks of slots: `{order_number}` is filled from the customer's words or asked for; `[date]` is a blank that
only a person can fill. One set of patterns serves the preparation (Python's `re`) and the served graph (RE2).
"""

# B messages, S slots, R templates, P pieces of the longest template

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from kerasllm.errors import DataError

CHINESE = "[\u4e00-\u9fff]"
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20, 0xFFE5: 0xA5}
_REFERENCE = re.compile(r"\{([a-z][a-z0-9_]*)\}|\[([a-z][a-z0-9_]*)\]")


@dataclasses.dataclass(frozen=True)
class Slot:
    """One kind of value.

    Attributes:
      name: as it stands in templates, `{name}`.
      patterns: with one group each, around the value; tried in order. Python compiles them with re.ASCII, as RE2 reads
        them: a digit beside a Chinese character is the end of a word.
      bare: patterns for an answer to our own question, where the value stands without the words around it.
      ask: the question for a missing value by language, "en" and "zh"; empty: it is never asked for.
      personal: never repeated from one customer to another, even where history knows a single value.
    """

    name: str
    patterns: tuple[str, ...]
    bare: tuple[str, ...] = ()
    ask: Mapping[str, str] = dataclasses.field(default_factory=dict)
    personal: bool = False


def read_slots(*paths: str | os.PathLike[str]) -> tuple[Slot, ...]:
    """Reads slots from YAML files; a later file replaces a slot of the same name.

    Each file: name -> {patterns | words, bare, ask: {en, zh}, personal}; `words` is a list of the values themselves.

    Raises:
      DataError: naming file and slot: not YAML, an unknown key, or a pattern that is not valid or has not one group.
    """
    slots: dict[str, Slot] = {}
    for path in paths:
        try:
            tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise DataError(f"{path}: cannot read the slots ({' '.join(str(error).split())}).") from None
        if not isinstance(tree, dict):
            raise DataError(f"{path}: slots are a mapping of names, each with patterns or words.")
        slots |= {str(name): _slot(str(name), fields, f"{path}: slot {name}") for name, fields in tree.items()}
    return tuple(slots.values())


def write_slots(slots: Sequence[Slot], path: Path) -> None:
    """Writes slots as `read_slots` reads them."""
    tree = {
        slot.name: {
            "patterns": list(slot.patterns),
            "bare": list(slot.bare),
            "ask": dict(slot.ask),
            "personal": slot.personal,
        }
        for slot in slots
    }
    path.write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=1000), encoding="utf-8")


def language_of(text: str) -> str:
    """The language by its writing: "zh" where a Chinese character stands in the text, else "en"."""
    return "zh" if re.search(CHINESE, text) else "en"


def has_chinese(texts: Any) -> Any:
    """`language_of` in the graph: [B] string -> [B] bool, whether a Chinese character stands in the text."""
    import tensorflow as tf

    return tf.strings.regex_full_match(texts, f"(?s).*{CHINESE}.*")


def split_template(template: str, slots: Sequence[Slot]) -> list[tuple[str, str]]:
    """Pieces of a template: ("text", words), ("slot", name) or ("blank", name)."""
    known = {slot.name for slot in slots}
    pieces, end = [], 0
    for match in _REFERENCE.finditer(template):
        name = match[1] or match[2]
        if name not in known:
            continue
        pieces += [("text", template[end : match.start()]), ("slot" if match[1] else "blank", name)]
        end = match.end()
    return [piece for piece in [*pieces, ("text", template[end:])] if piece[1]]


def find_spans(text: str, slots: Sequence[Slot]) -> list[tuple[int, int, str]]:
    """Places (start, stop, slot name) of all values in a text, left to right, none inside another.

    `text` is expected as `normal_form` makes it.
    """
    spans: list[tuple[int, int, str]] = []
    for slot in slots:
        for pattern in slot.patterns:
            spans += [(*match.span(1), slot.name) for match in re.finditer(pattern, text, re.ASCII)]
    spans.sort(key=lambda span: (span[0], -span[1]))  # the longest of those that begin together
    kept: list[tuple[int, int, str]] = []
    for span in spans:
        if span[0] < span[1] and (not kept or span[0] >= kept[-1][1]):
            kept.append(span)
    return kept


def normal_form(text: str) -> str:
    """Full-width digits, letters and signs as the plain ones; as long as the text, so that places stay the same."""
    return text.translate(_FULL_WIDTH)


def find_values(texts: Any, slots: Sequence[Slot], *, bare_for: Any = None, last: bool = False) -> Any:
    """The value of each slot in each text, in-graph.

    Args:
      texts: [B] string.
      slots: S of them.
      bare_for: [B] int32 or None; the slot whose bare patterns count as well, -1: none.
      last: take the last value of a text instead of the first.

    Returns: [B, S] string, "" where a text has no such value.
    """
    import tensorflow as tf
    import tensorflow_text as tf_text

    texts = tf_text.normalize_utf8(texts, "NFKC")
    columns = []
    for index, slot in enumerate(slots):
        value = _first_match(texts, slot.patterns, last)
        if bare_for is not None and slot.bare:
            bare = tf.where(tf.equal(bare_for, index), _first_match(texts, slot.bare, last), "")
            value = tf.where(tf.equal(value, ""), bare, value)
        columns.append(value)
    return tf.stack(columns, axis=1) if columns else tf.zeros([tf.shape(texts)[0], 0], tf.string)


class Templates:
    """Reply templates as constants of a graph; a value from a message is never read as a template itself.

    Args:
      templates: R replies.
      slots: that they may speak of.
    """

    def __init__(self, templates: Sequence[str], slots: Sequence[Slot]) -> None:
        import numpy as np

        names = [slot.name for slot in slots]
        rows = [split_template(template, slots) for template in templates]
        width = max([1, *map(len, rows)])
        self.texts = np.full([len(rows), width], "", object)
        self.slot_ids = np.full([len(rows), width], len(slots), np.int32)  # S: no slot, always empty
        self.has_blank = np.array([any(kind == "blank" for kind, _ in row) for row in rows], bool)
        for place, row in enumerate(rows):
            for piece, (kind, words) in enumerate(row):
                if kind == "slot":
                    self.slot_ids[place, piece] = names.index(words)
                else:
                    self.texts[place, piece] = words if kind == "text" else f"[{words}]"
        languages = [language_of(template) for template in templates]
        self.asks = np.array([[slot.ask.get(language, "") for slot in slots] + [""] for language in languages], object)

    def fill(self, rows: Any, values: Any) -> dict[str, Any]:
        """Fills templates, in-graph.

        Args:
          rows: [B] int32, which template.
          values: [B, S] string; "" where the message has none.

        Returns: text [B] string; missing [B] int32, the first slot without a value or -1; ask [B] string, the question
          for it; has_blank [B] bool.
        """
        import tensorflow as tf

        num_slots = tf.shape(values)[1]
        slot_ids = tf.gather(tf.constant(self.slot_ids), rows)
        padded = tf.concat([values, tf.fill([tf.shape(values)[0], 1], "")], axis=1)
        filled = tf.gather(padded, slot_ids, batch_dims=1)
        text = tf.strings.reduce_join(tf.gather(tf.constant(self.texts), rows) + filled, axis=1)
        is_missing = tf.logical_and(slot_ids < num_slots, tf.equal(filled, ""))
        first = tf.argmax(tf.cast(is_missing, tf.int32), axis=1, output_type=tf.int32)
        slot = tf.gather(slot_ids, first, batch_dims=1)
        any_missing = tf.reduce_any(is_missing, axis=1)
        asked = tf.where(any_missing, slot, num_slots)
        ask = tf.gather(tf.gather(tf.constant(self.asks), rows), asked, batch_dims=1)
        return {
            "text": text,
            "missing": tf.where(any_missing, slot, -1),
            "ask": ask,
            "has_blank": tf.gather(tf.constant(self.has_blank), rows),
        }


def _first_match(texts: Any, patterns: Sequence[str], last: bool) -> Any:
    """[B] string: the group of the first pattern that a text has, or ""."""
    import tensorflow as tf

    found = tf.zeros_like(texts)
    lead = "(?s)^.*" if last else "(?s)^.*?"
    for pattern in reversed(patterns):
        whole = f"{lead}(?-s:{pattern})(?s:.*)$"
        value = tf.strings.regex_replace(texts, whole, r"\1", replace_global=False)
        found = tf.where(tf.strings.regex_full_match(texts, whole), value, found)
    return found


def _slot(name: str, fields: Any, place: str) -> Slot:
    known = {"patterns", "words", "bare", "ask", "personal"}
    if not isinstance(fields, dict) or not set(fields) <= known:
        raise DataError(f"{place}: expected a mapping with {', '.join(sorted(known))}.")
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise DataError(f"{place}: a name is made of small letters, digits and _.")
    patterns = [*fields.get("patterns", ()), *([_any_of(fields["words"])] if fields.get("words") else [])]
    if not patterns:
        raise DataError(f"{place}: has neither patterns nor words.")
    for pattern in [*patterns, *fields.get("bare", ())]:
        _check(pattern, place)
    ask = {str(language): str(question) for language, question in (fields.get("ask") or {}).items()}
    personal = bool(fields.get("personal", False))
    return Slot(name, tuple(patterns), tuple(fields.get("bare", ())), ask, personal)


def _any_of(words: Sequence[str]) -> str:
    """A pattern for a list of words, the longest first; Latin ones as whole words."""
    ordered = sorted(map(str, words), key=lambda word: (-len(word), word))
    escaped = [re.escape(word) if language_of(word) == "zh" else rf"\b{re.escape(word)}\b" for word in ordered]
    return f"(?i:({'|'.join(escaped)}))"


def _check(pattern: str, place: str) -> None:
    try:
        groups = re.compile(pattern, re.ASCII).groups
    except re.error as error:
        raise DataError(f"{place}: {pattern!r} is not a pattern ({error}).") from None
    if groups != 1:
        raise DataError(f"{place}: {pattern!r} has {groups} groups; exactly one stands around the value.")
