"""Which values does a text hold, and is a value in it that its source has not?"""

from pathlib import Path

import pytest
import tensorflow as tf

from kerasllm.text.slots import read_slots
from kerasllm.text.values import are_copied, copyable_values, typed_values, values_of

SLOTS = read_slots(Path(__file__).parents[3] / "apps" / "customer_service" / "slots.yaml")


def found(find, text: str) -> list[str]:
    return [value.decode() for value in find(tf.constant([text])).to_list()[0]]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("Order 48213 comes on 2023-11-05.", ["48213", "2023-11-05"]),
        ("pay $1,299.00 or 5%, to a.b+c@example.org!", ["$1,299.00", "5%", "a.b+c@example.org"]),
        ("订单AB-17于5月3日送达，１２号", ["AB-17", "5", "3", "12"]),
        ("well-known, no value: none", []),
        ("at 10:30; (3)", ["10:30", "3"]),
        ("", []),
    ],
)
def test_values_are_runs_with_a_digit_or_an_at_sign(text: str, values: list[str]) -> None:
    assert found(values_of, text) == values


def test_a_number_glued_to_a_word_may_be_copied_without_it_but_not_half_an_address() -> None:
    assert found(copyable_values, "48213,please") == ["48213,please", "48213"]
    assert "x@y.org" not in found(copyable_values, "7.x@y.org")
    assert found(copyable_values, "1,299") == ["1,299", "1,299"]


def test_values_of_slots_are_all_of_a_text_in_one_form() -> None:
    values = found(lambda texts: typed_values(texts, SLOTS), "On Monday, or  next  Friday; 5 euros. 明天")
    assert {"monday", "5 euros", "明天"} <= set(values)
    assert found(lambda texts: typed_values(texts, []), "Monday") == []


@pytest.mark.parametrize(
    ("text", "source", "is_copied"),
    [
        ("Order 48213 comes.", "where is my order 48213", True),
        ("Order 48213 comes.", "where is my order 4821", False),
        ("Order 48213 comes.", "48213", True),  # without the words that make it an order's number
        ("It comes on Monday.", "we deliver each monday", True),
        ("It comes on Monday.", "we deliver each day", False),  # no digit: only its slot tells that it is a value
        ("That is 5 dollars.", "that is 5 euros", False),
        ("５月３日送达", "5月3日送达", True),
        ("3月5日送达", "5月3日送达", False),
        ("We are open.", "", True),
    ],
)
def test_a_text_is_copied_if_each_of_its_values_stands_in_the_source(text: str, source: str, is_copied: bool) -> None:
    assert bool(are_copied(tf.constant([text]), tf.constant([source]), SLOTS)[0]) == is_copied


def test_rows_are_judged_by_sources_of_their_own() -> None:
    judged = are_copied(tf.constant(["no. 7", "no. 7"]), tf.constant(["7", "8"]), SLOTS)
    assert judged.numpy().tolist() == [True, False]
    assert are_copied(tf.zeros([0], tf.string), tf.zeros([0], tf.string), SLOTS).shape == [0]
