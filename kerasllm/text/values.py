"""Which values of a text may nobody make up? Numbers, codes, addresses, and values of typed slots, in-graph."""

# N texts

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_text as tf_text

from kerasllm.text.slots import Slot

SIGNS = "@%$"  # belong to a value wherever they stand in it
JOINTS = "_+.,:/-"  # belong to it only between its other characters
VALUE = rf"[\p{{Nd}}A-Za-z{SIGNS}{JOINTS}]"  # characters of a run
_OTHER = rf"[^\p{{Nd}}A-Za-z{SIGNS}{JOINTS}]+"
_EDGES = rf"^[{JOINTS}]+|[{JOINTS}]+$"
_FULL_WIDTH_SIGNS = "[\uff0c\uff0e\uff1a\uff0f\uff0d\u3001]"  # they separate, whatever NFKC makes of them
_BEGIN, _END = "\x01", "\x02"  # around what a pattern found


def values_of(texts: Any) -> Any:
    """Runs of letters, digits and signs that hold a digit or "@", without joints at their ends: [N, (values)] string.

    Full-width characters count as the plain ones. "Call 010-1234, or a.b@c.org." has 010-1234 and a.b@c.org.

    Args:
      texts: [N] string.
    """
    plain = tf_text.normalize_utf8(tf.strings.regex_replace(texts, _FULL_WIDTH_SIGNS, " "), "NFKC")
    runs = tf.strings.split(tf.strings.regex_replace(plain, _OTHER, " "))
    runs = tf.ragged.map_flat_values(tf.strings.regex_replace, runs, _EDGES, "")
    is_value = tf.ragged.map_flat_values(tf.strings.regex_full_match, runs, r".*[\p{Nd}@].*")
    return tf.ragged.boolean_mask(runs, is_value)


def copyable_values(texts: Any) -> Any:
    """What a reply may copy from texts: `values_of`, and numbers that someone glued to a word ("48213,please").

    Args:
      texts: [N] string.

    Returns: [N, (values)] string.
    """
    apart = tf.strings.regex_replace(texts, r"([0-9])[,.:/]+([A-Za-z])", r"\1 \2")
    apart = values_of(tf.strings.regex_replace(apart, r"([A-Za-z])[,.:/]+([0-9])", r"\1 \2"))
    has_sign = tf.ragged.map_flat_values(tf.strings.regex_full_match, apart, ".*@.*")  # half an address is none
    has_no_sign = tf.ragged.map_flat_values(tf.logical_not, has_sign)
    return tf.concat([values_of(texts), tf.ragged.boolean_mask(apart, has_no_sign)], axis=1)


def typed_values(texts: Any, slots: Sequence[Slot]) -> Any:
    """All values of slots, by their patterns, in small letters and with single spaces: [N, (values)] string.

    Args:
      texts: [N] string.
      slots: of the application.
    """
    plain = tf.strings.regex_replace(tf_text.normalize_utf8(texts, "NFKC"), f"[{_BEGIN}{_END}]", " ")
    found = [tf.strings.split(plain, _BEGIN)[:, 1:]]  # none: the form of what follows
    for pattern in (pattern for slot in slots for pattern in slot.patterns):
        marked = tf.strings.regex_replace(plain, pattern, rf"{_BEGIN}\1{_END}")
        found.append(tf.strings.split(marked, _BEGIN)[:, 1:])
    return tf.ragged.map_flat_values(_bare, tf.concat(found, axis=1))


def are_copied(texts: Any, sources: Any, slots: Sequence[Slot]) -> Any:
    """Whether every value of each text stands in its source: [N] bool.

    Args:
      texts: [N] string.
      sources: [N] string.
      slots: a value of theirs has to be one in the source too, or a number or code there.
    """
    said = values_of(texts).to_tensor("")
    given = copyable_values(sources)
    typed, known = typed_values(texts, slots), typed_values(sources, slots)
    known = tf.concat([known, tf.ragged.map_flat_values(_bare, given)], axis=1)
    return _all_in(said, given.to_tensor("")) & _all_in(typed.to_tensor(""), known.to_tensor(""))


def _all_in(values: Any, known: Any) -> Any:
    """[N, A] and [N, B] string, "" is none -> [N] bool."""
    is_known = tf.reduce_any(tf.equal(values[:, :, None], known[:, None]), axis=2)
    return tf.reduce_all(is_known | tf.equal(values, ""), axis=1)


def _bare(values: Any) -> Any:
    """Values without what follows them, in small letters and with single spaces."""
    values = tf.strings.regex_replace(values, f"(?s){_END}.*", "")
    return tf.strings.lower(tf.strings.regex_replace(tf.strings.strip(values), r"\s+", " "), encoding="utf-8")
