"""How is a conversation written as one string, and what of it does a retrieval query need? In-graph where it is served.

The context of a question is its earlier turns, one a line, oldest first: `customer: ...` and `assistant: ...`.
"""

# B conversations

import re
from collections.abc import Iterable, Sequence
from typing import Any

CUSTOMER, ASSISTANT = "customer", "assistant"
BETWEEN_TURNS = " ; "  # of a query
LONG_NUMBER = "[0-9]{5,}"


def join_turns(turns: Iterable[tuple[str, str]]) -> str:
    """Context of (speaker, text) turns; line breaks inside a turn become spaces."""
    return "\n".join(f"{speaker}: {' '.join(text.split())}" for speaker, text in turns)


def customer_turns(context: str) -> list[str]:
    """What the customer said in a context."""
    return [line.removeprefix(f"{CUSTOMER}: ") for line in context.split("\n") if line.startswith(f"{CUSTOMER}: ")]


def query_texts(questions: Any, contexts: Any, num_turns: int) -> Any:
    """What the matching models read: the question, then the newest `num_turns` earlier turns, newest first.

    A text that is too long loses its end, so that the oldest words go first. Long numbers, such as those of orders,
    are all the same: which one it is tells nothing about the reply.

    Args:
      questions: [B] string.
      contexts: [B] string; "" where the conversation begins.
      num_turns: 0: the questions alone.

    Returns: [B] string.
    """
    import tensorflow as tf

    questions, contexts = (tf.strings.regex_replace(column, LONG_NUMBER, "00000") for column in (questions, contexts))
    if not num_turns:
        return questions
    turns = tf.strings.split(contexts, "\n")  # [B, (turns)]
    newest_first = tf.reverse(turns.to_tensor(""), axis=[1])  # padding comes first then, and is dropped with the rest
    is_turn = tf.not_equal(newest_first, "")
    newest = tf.ragged.boolean_mask(newest_first, is_turn)[:, :num_turns]
    words = tf.ragged.map_flat_values(tf.strings.regex_replace, newest, f"^(?:{CUSTOMER}|{ASSISTANT}): ", "")
    history = tf.strings.reduce_join(words, axis=1, separator=BETWEEN_TURNS)
    return tf.where(tf.equal(history, ""), questions, tf.strings.join([questions, history], BETWEEN_TURNS))


def newest_turns(queries: Any) -> Any:
    """The questions in what `query_texts` returned, [B] string: the language of earlier turns is not theirs."""
    import tensorflow as tf

    return tf.strings.regex_replace(queries, f"(?s){BETWEEN_TURNS}.*", "")


def open_request(contexts: Any, asks: Sequence[Sequence[str]]) -> tuple[Any, Any, Any]:
    """What the customer wanted before the assistant asked back for a slot, in-graph.

    Args:
      contexts: [B] string.
      asks: for each slot the questions that ask for it.

    Returns: the turns before that request [B] string; the request [B] string, "" where the last turn is no such
      question; the slot asked for [B] int32, or -1.
    """
    import tensorflow as tf

    all_asks = _any_of([question for questions in asks for question in questions])
    if not all_asks:
        return tf.zeros_like(contexts), tf.zeros_like(contexts), tf.fill(tf.shape(contexts), -1)
    asked = rf"\n{ASSISTANT}: (?:{all_asks})"
    # The earliest customer turn after which the assistant only asked for slots up to the end.
    chain = rf"^((?s:.*?\n)??){CUSTOMER}: ([^\n]*)(?:{asked}\n{CUSTOMER}: [^\n]*)*{asked}$"
    is_open = tf.strings.regex_full_match(contexts, chain)
    before, request = (
        tf.where(is_open, tf.strings.regex_replace(contexts, chain, group, replace_global=False), "")
        for group in (r"\1", r"\2")
    )
    slot = tf.fill(tf.shape(contexts), -1)
    for index, questions in enumerate(asks):
        if questions:
            ends = rf"(?s:.*)\n{ASSISTANT}: (?:{_any_of(questions)})$"
            slot = tf.where(tf.logical_and(is_open, tf.strings.regex_full_match(contexts, ends)), index, slot)
    return before, request, slot


def _any_of(questions: Sequence[str]) -> str:
    """A pattern for any of the questions, their ASCII punctuation escaped."""
    return "|".join(re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", question) for question in questions if question)
