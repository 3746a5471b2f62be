"""Which values of slots did the customer name so far, and how do replies read with them? In-graph."""

# B conversations, S slots, K replies of each

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from kerasllm.text.slots import Slot, Templates, find_values
from kerasllm.text.turns import ASSISTANT


def own_words(contexts: Any) -> Any:
    """Contexts [B] without what the assistant said, [B] string."""
    return tf.strings.regex_replace(contexts, rf"(?m)^{ASSISTANT}: [^\n]*$", "")


def named_values(questions: Any, contexts: Any, slots: Sequence[Slot], asked: Any = None) -> Any:
    """What the customer named: in the question, else newest first in the earlier turns; [B, S] string, "" is nothing.

    Args:
      questions: [B] string.
      contexts: [B] string, as kerasllm.text.turns writes them.
      slots: S of them.
      asked: [B] int32, the slot that was just asked for, or -1; None: none was.
    """
    now = find_values(questions, slots, bare_for=asked)
    return tf.where(tf.equal(now, ""), find_values(own_words(contexts), slots, last=True), now)


def filled_or_named(templates: Templates, slots: Sequence[Slot], rows: Any, values: Any) -> Any:
    """Templates with the values of their slots, and with `{slot}` where a value is missing: [B, K] string.

    Args:
      templates: that `rows` count.
      slots: S of them.
      rows: [B, K] int32.
      values: [B, S] string; "" is missing.
    """
    references = tf.constant([f"{{{slot.name}}}" for slot in slots], tf.string, [len(slots)])
    values = tf.where(tf.equal(values, ""), references, values)
    texts = templates.fill(tf.reshape(rows, [-1]), tf.repeat(values, tf.shape(rows)[1], axis=0))["text"]
    return tf.reshape(texts, tf.shape(rows))
