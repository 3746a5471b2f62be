"""Can a reply hold a number, a code or an address that stands in none of its sources, whatever the model prefers?"""

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasllm.text import ByteTokenizer, Tokenizer, train_sentencepiece, train_wordpiece
from kerasllm.text.copying import copy_only
from kerasllm.text.forbidden import FORBIDDEN
from kerasllm.text.sizes import written
from kerasllm.text.values import copyable_values, values_of

LINES = [
    "order 48213 comes on 5 May",
    "pay $1,299.00 to a.b@example.org by 2023-11-05",
    "no. 7, code AB-17: 10:30",
    "订单48213于5月3日送达",
]
SOURCES = [
    "Where is order 48213? It cost $1,299.00",
    "订单AB-17，5月3日",
    "write to a.b@example.org, or call 010-7",
    "no value",
]


@pytest.fixture(scope="module", params=["sentencepiece", "byte", "wordpiece"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    if request.param == "byte":
        return ByteTokenizer()
    return train_sentencepiece(LINES * 30, 400) if request.param == "sentencepiece" else train_wordpiece(LINES * 5, 150)


def allowed(tokenizer: Tokenizer, source: str, said: str) -> set[bytes]:
    """What the tokens add that may come after a reply's beginning."""
    ids = tokenizer.tokenize([said]).to_tensor()
    lower = copy_only(tokenizer, copyable_values(tf.constant([source])).to_tensor(""), tf.constant([0]))
    logits = lower(tf.zeros([1, tokenizer.vocab_size]), ids, tf.constant([ids.shape[1]]))[0].numpy()
    assert set(np.unique(logits)) <= {0, np.float32(FORBIDDEN)}
    return {piece for piece, logit in zip(written(tokenizer), logits, strict=True) if logit == 0}


def test_a_number_goes_on_as_in_its_source_and_ends_where_it_ends_there() -> None:
    tokenizer = ByteTokenizer()
    digits = {bytes([byte]) for byte in b"0123456789"}
    source = "order 48213, please"
    assert allowed(tokenizer, source, "It is ") & digits == {b"4"}
    assert allowed(tokenizer, source, "It is 48") == {b"2"}
    assert not allowed(tokenizer, source, "It is 48213") & digits
    assert {b" ", b".", b","} <= allowed(tokenizer, source, "It is 48213")
    assert not allowed(tokenizer, source, "It is 48213") & {b"a", b"%"}
    assert not allowed(tokenizer, source, "It is 48213.") & {b"5", b"a"}  # 48213.5 would be another number
    assert not allowed(tokenizer, source, "It is A") & digits  # A4... would be a code
    assert {b"a", b" "} <= allowed(tokenizer, source, "It is A")


def test_the_end_of_a_reply_is_no_way_out_of_a_value() -> None:
    tokenizer = ByteTokenizer()
    lower = copy_only(tokenizer, tf.constant([["48213"], ["48"]]), tf.constant([0, 0]))
    ids = tf.tile(tokenizer.tokenize(["48"]).to_tensor(), [2, 1])
    logits = lower(tf.zeros([2, tokenizer.vocab_size]), ids, tf.constant([2, 2])).numpy()
    assert (logits[:, tokenizer.special.eos] == 0).tolist() == [False, True]


def test_what_the_prompt_ends_with_is_not_looked_at() -> None:
    tokenizer = ByteTokenizer()
    ids = tokenizer.tokenize(["no. 4"]).to_tensor()
    lower = copy_only(tokenizer, tf.constant([["48213"]]), tf.constant([ids.shape[1]]))
    logits = lower(tf.zeros([1, tokenizer.vocab_size]), ids, tf.constant([ids.shape[1]]))[0].numpy()
    names = [piece for piece, logit in zip(written(tokenizer), logits, strict=True) if logit == 0]
    assert b"4" in names
    assert b"8" not in names


def test_where_no_token_can_go_on_the_reply_ends() -> None:
    tokenizer = train_wordpiece(["the 4 cats", "a dog"] * 5, 100)
    lower = copy_only(tokenizer, tf.constant([["4.8"]]), tf.constant([0]))  # its tokens write spaces around a point
    ids = tokenizer.tokenize(["4"]).to_tensor()
    logits = lower(tf.zeros([1, tokenizer.vocab_size]), ids, tf.constant([1]))[0].numpy()
    may_come = set(np.flatnonzero(logits == 0))
    assert tokenizer.special.eos in may_come
    assert not any(written(tokenizer)[number] for number in may_come)


def test_a_digit_of_another_form_never_comes_not_even_byte_by_byte() -> None:
    tokenizer = ByteTokenizer()
    for digit in "１٣२𝟗㏠＠":
        spelled = digit.encode()
        ids = tf.constant([[byte + 5 for byte in b"no. " + spelled[:-1]]])  # five special tokens come first
        lower = copy_only(tokenizer, tf.constant([["1"]]), tf.constant([0]))
        logits = lower(tf.zeros([1, tokenizer.vocab_size]), ids, tf.constant([ids.shape[1]]))[0].numpy()
        names = {piece for piece, logit in zip(written(tokenizer), logits, strict=True) if logit == 0}
        assert spelled[-1:] not in names, digit
        assert digit != "１" or "Ａ".encode()[-1:] in names  # another character of the same first bytes


@pytest.fixture(scope="module")
def random_replies(tokenizer: Tokenizer) -> Callable[[int, float], list[tuple[str, bool]]]:
    """Of a seed, replies to SOURCES of 20 tokens at most, and whether each has ended."""
    pieces = written(tokenizer)
    makes_value = np.array([any(chr(byte) in "0123456789@" for byte in piece) for piece in pieces])
    values = copyable_values(tf.constant(SOURCES)).to_tensor("")

    @tf.function(input_signature=[tf.TensorSpec([20, len(SOURCES), len(pieces)], tf.float32)])
    def write(scores: tf.Tensor) -> tf.Tensor:
        lower = copy_only(tokenizer, values, tf.zeros([len(SOURCES)], tf.int32))
        token_ids = tf.zeros([len(SOURCES), 20], tf.int32)
        for step in tf.range(20):
            lowered = lower(scores[step], token_ids, tf.fill([len(SOURCES)], step))
            words = tf.argmax(lowered, axis=1, output_type=tf.int32)
            token_ids += words[:, None] * tf.one_hot([step], 20, dtype=tf.int32)
        return token_ids

    def replies(seed: int, liking: float) -> list[tuple[str, bool]]:
        scores = np.random.default_rng(seed).normal(0, 3, [20, len(SOURCES), len(pieces)]) + makes_value * liking
        found = []
        for row in write(tf.constant(scores, tf.float32)).numpy().tolist():
            said = row[: row.index(tokenizer.special.eos)] if tokenizer.special.eos in row else row
            found.append((b"".join(pieces[number] for number in said).decode("utf-8", "replace"), said is not row))
        return found

    return replies


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), liking=st.sampled_from([0.0, 4.0, 8.0]))
def test_no_reply_of_random_scores_holds_a_value_that_is_not_in_its_sources(
    tokenizer: Tokenizer, random_replies: Callable[..., list[tuple[str, bool]]], seed: int, liking: float
) -> None:
    """`liking` raises the scores of tokens with digits and "@", which the mask has to hold back."""
    replies = random_replies(seed, liking)
    known = copyable_values(tf.constant(SOURCES)).to_list()
    said = values_of(tf.constant([text for text, _ in replies])).to_list()
    for (text, has_ended), source, values in zip(replies, known, said, strict=True):
        # a reply of the longest length may stop in a value, and so may one of words that cannot spell it
        is_cut = not has_ended or tokenizer.kind == "wordpiece"
        assert set(values[:-1] if is_cut else values) <= set(source), text
        assert all(any(whole.startswith(value) for whole in source) for value in values), text
