"""Does the assistant answer, ask, cite or hand over as its scores say, and does a slot carry over the next turn?"""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.export.assistant import HAND_OVERS, AssistantSignatures, Confidence, Ranker, mixed_logits
from kerasllm.text.slots import read_slots
from tests.unit.export.small_assistant import NoIntent, WordIndex

SLOTS = read_slots(Path(__file__).parents[3] / "apps" / "customer_service" / "slots.yaml")
REPLIES = ("Order {order_number} is cancelled.", "We are open until eight.", "It comes on [date].")
WORDS = ("cancel", "open", "come")  # that make a question near its reply
SURE = Confidence(answer_from=0.8, similarity_from=0.5, document_from=0.5)


@pytest.fixture(scope="module")
def ask():
    ranker = Ranker(WordIndex(REPLIES, WORDS), None, 3, np.ones([3, 2], np.float32))
    documents = WordIndex(("Gift cards last three years.",), ("gift",))
    assistant = AssistantSignatures(NoIntent(), ranker, SLOTS, SURE, 2, documents, ("cards.md#Gifts",))
    reply = assistant.signatures()["reply"]

    def one(question, context=""):
        outputs = reply(question=tf.constant([question]), context=tf.constant([context]))
        return {name: value.numpy()[0] for name, value in outputs.items()}

    return one


def said(answer):
    return answer["action"].decode(), answer["reply"].decode()


def test_a_known_reply_is_filled_from_the_message(ask):
    answer = ask("please cancel order 48213")
    assert said(answer) == ("answer", "Order 48213 is cancelled.")
    assert answer["matched_reply"] == REPLIES[0].encode()
    assert answer["matched_question"] == b"past cancel"
    # Cosines 0.9, 0.1, 0.1, times 20: 1 / (1 + 2 exp(-16)).
    assert answer["score"] == pytest.approx(1.0, abs=1e-6)
    assert answer["candidates"].shape == (3,)


def test_a_missing_slot_is_asked_for_and_the_next_turn_goes_on(ask):
    first = ask("please cancel my order")
    assert said(first) == ("ask_slot", "Could you give me the order number, please?")
    assert first["missing_slot"] == b"order_number"
    context = f"customer: please cancel my order\nassistant: {first['reply'].decode()}"
    assert said(ask("48213", context)) == ("answer", "Order 48213 is cancelled.")


def test_a_value_of_an_earlier_turn_counts_but_not_one_that_the_assistant_said(ask):
    assert said(ask("cancel it", "customer: about order 11111\nassistant: yes?"))[1] == "Order 11111 is cancelled."
    assert said(ask("cancel it", "customer: hello\nassistant: order 11111?"))[0] == "ask_slot"


def test_a_blank_goes_to_a_person_as_a_draft(ask):
    assert said(ask("when does it come")) == ("hand_over", "It comes on [date].")


def test_a_document_is_cited_where_no_reply_fits(ask):
    answer = ask("how long is a gift card valid")
    assert said(answer) == ("document", "Gift cards last three years.")
    assert answer["source"] == b"cards.md#Gifts"


def test_an_unsure_or_foreign_question_goes_to_a_person_in_its_language(ask):
    assert said(ask("hello")) == ("hand_over", HAND_OVERS["en"])
    assert said(ask("你好")) == ("hand_over", HAND_OVERS["zh"])
    assert said(ask("are you open in this weather")) == ("hand_over", HAND_OVERS["en"])
    assert ask("are you open in this weather")["reason"] == b"the question is out of scope"


def test_a_reply_that_was_never_given_to_the_intent_is_not_sure_even_without_a_rival():
    never = np.array([[1, 0], [1, 0], [1, 0]], np.float32)
    ranker = Ranker(WordIndex(REPLIES, WORDS), None, 3, never)
    certain = tf.constant([[0.0, 1.0], [1.0, 0.0]])
    ranked = ranker.ranked(tf.constant(["open", "open"]), certain, Confidence(intent_share=1.0))
    # All three candidates disagree in the first row: 0.001 of the softmax's 1.0.
    np.testing.assert_allclose(ranked["probabilities"][:, 0], [0.001, 1.0], atol=1e-5)


def test_the_shares_of_the_stages_are_weights_of_log_probabilities():
    found = {
        "search": tf.constant([[np.log(3.0), 0.0]], tf.float32),
        "rerank": tf.constant([[0.0, np.log(3.0)]], tf.float32),
        "intent": tf.math.log([[0.5, 1.0]]),
    }
    even = mixed_logits(found, Confidence(rerank_share=0.5)).numpy()
    assert even[0, 0] == pytest.approx(even[0, 1])
    # ln(3/4) and ln(1/4), and the intent's ln 0.5 and 0 in full.
    with_intent = mixed_logits(found, Confidence(intent_share=1.0)).numpy()
    np.testing.assert_allclose(with_intent, np.log([[0.375, 0.25]]), atol=1e-6)
