"""Is a written reply given only if it is grounded, and never with a value that nobody said?"""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from kerasllm import models
from kerasllm.config import make_run
from kerasllm.export.assistant import AssistantSignatures, Confidence, Ranker
from kerasllm.export.grounded import GroundedGenerator, Written
from kerasllm.export.grounded_reply import GroundedAssistantSignatures, GroundedConfidence
from kerasllm.text import ByteTokenizer
from kerasllm.text.overlap import shares_in
from kerasllm.text.slots import read_slots
from kerasllm.text.values import are_copied
from tests.unit.export.small_assistant import NoIntent, WordIndex

SLOTS = read_slots(Path(__file__).parents[3] / "apps" / "customer_service" / "slots.yaml")
REPLIES = ("Order {order_number} is cancelled.", "We are open until eight.", "It comes on [date].")
WORDS = ("cancel", "open", "come")  # that make a question near its reply
BYTES = ByteTokenizer()
RUN = make_run(
    {
        "tokenizer": {"kind": "byte"},
        "objective": {"task": "dialogue"},
        "backbone": {
            "architecture": "gpt",
            "num_layers": 1,
            "hidden_dim": 16,
            "num_heads": 2,
            "max_length": 320,
            "num_token_types": 0,
            "norm_order": "pre",
        },
        "grounding": {"replies": 2, "max_new_tokens": 40},
        "train": {"steps": 1, "sequence_length": 320},
        "export": {"sequence_length": 64},
    }
)


class Says(tf.Module):
    """A generator that says one thing, with a probability of 0.5 for each token."""

    def __init__(self, line, **flaws):
        super().__init__()
        self.line, self.flaws = line, flaws

    def write(self, question, context, replies, settings):
        text, is_so = tf.fill(tf.shape(question), self.line), tf.fill(tf.shape(question), True)
        judged = {"is_ended": is_so, "is_copied": is_so, "is_filled": is_so}
        judged |= {name: tf.fill(tf.shape(question), value) for name, value in self.flaws.items()}
        size = tf.strings.length(text)
        half = tf.fill(tf.shape(question), float(np.log(0.5)))
        return Written(text, size, half, shares_in(BYTES, text, replies), **judged)


def assistant(generator, num_replies=2, replies=REPLIES):
    known = np.ones([len(replies), 2], np.float32)
    ranker = Ranker(WordIndex(replies, WORDS[: len(replies)]), None, 3, known)
    confidence = Confidence(answer_from=0.8, similarity_from=0.5)
    base = AssistantSignatures(NoIntent(), ranker, SLOTS, confidence, 2)
    return GroundedAssistantSignatures(base, generator, num_replies, GroundedConfidence(min_score=0.4))


def ask(signatures, *questions, min_score=-1.0, context="", **changed):
    rows = len(questions)
    settings = {
        "max_new_tokens": tf.fill([rows], 40),
        "temperature": tf.zeros([rows]),
        "seed": tf.zeros([rows], tf.int64),
    }
    outputs = signatures.traced()(
        question=tf.constant(questions),
        context=tf.fill([rows], context),
        min_score=tf.fill([rows], min_score),
        **{**settings, **changed},
    )
    return {name: value.numpy() for name, value in outputs.items()}


def test_a_grounded_reply_is_given_with_the_replies_that_it_draws_on():
    answer = ask(assistant(Says("We are open until eight, yes.")), "when do you open")
    assert answer["source"][0] == b"generated"
    assert answer["reply"][0] == b"We are open until eight, yes."
    assert answer["retrieved"][0].tolist() == [b"We are open until eight.", b"Order {order_number} is cancelled."]
    assert answer["cited"][0].tolist() == [b"We are open until eight.", b""]
    assert answer["cited_ids"][0].tolist() == [1, -1]
    # 21 of 27 runs of three bytes: those of "We are open until eight", without its full stop.
    assert answer["shares"][0, 0] == pytest.approx(21 / 27)
    # A token's probability times that of the cited reply: 0.5 x 1 / (1 + 2 exp(-16)).
    assert answer["score"][0] == pytest.approx(0.5, abs=1e-5)


def test_below_the_least_score_the_retrieved_reply_is_given_and_each_row_has_its_own():
    signatures = assistant(Says("We are open until eight, yes."))
    for min_score, source in ((0.6, b"retrieved"), (0.5, b"retrieved"), (0.49, b"generated"), (0.0, b"generated")):
        assert ask(signatures, "when do you open", min_score=min_score)["source"][0] == source
    answer = ask(signatures, "when do you open", min_score=0.6)
    assert answer["reply"][0] == b"We are open until eight."
    assert answer["generated"][0] == b"We are open until eight, yes."
    assert answer["reason"][0] == b"what was written has a score below the least; a known reply fits"
    with pytest.raises(tf.errors.InvalidArgumentError, match="min_score has to be a number"):
        ask(signatures, "when do you open", min_score=float("nan"))


@pytest.mark.parametrize(
    ("line", "flaws", "reason"),
    [
        ("Goodbye, dear friend.", {}, "stands in no retrieved reply"),
        ("No", {}, "stands in no retrieved reply"),
        ("We are open until eight", {"is_ended": False}, "has no end"),
        ("We are open until eight", {"is_copied": False}, "has a value that stands in none of its sources"),
        ("We are open until eight", {"is_filled": False}, "leaves a slot open"),
    ],
)
def test_what_is_not_grounded_is_not_given(line, flaws, reason):
    answer = ask(assistant(Says(line, **flaws)), "when do you open", min_score=0.0)
    assert answer["source"][0] == b"retrieved"
    assert answer["reply"][0] == b"We are open until eight."
    assert reason in answer["reason"][0].decode()


def test_the_retrieved_reply_asks_and_hands_over_as_without_a_generator():
    signatures = assistant(Says("Order {order_number} is cancelled.", is_filled=False))
    assert ask(signatures, "cancel my order")["action"][0] == b"ask_slot"
    out_of_scope = ask(assistant(Says("We are open until eight.")), "open in this weather", min_score=0.0)
    assert out_of_scope["action"][0] == b"hand_over"
    assert out_of_scope["reason"][0].startswith(b"the question is out of scope")


def test_the_writer_reads_replies_with_the_customers_values_and_a_small_catalogue_is_filled_up():
    answer = ask(assistant(Says("x"), num_replies=3, replies=REPLIES[:1]), "cancel order 48213")
    assert answer["retrieved"][0].tolist() == [b"Order 48213 is cancelled.", b"", b""]
    assert answer["cited_ids"].tolist() == [[-1, -1, -1]]


@pytest.fixture(scope="module")
def random_generator():
    """An assistant whose generator has random weights."""
    model = models.from_run(RUN, BYTES.vocab_size)
    random = np.random.default_rng(1)
    for weight in model.weights:
        weight.assign(random.normal(0, 0.4, weight.shape))
    return assistant(GroundedGenerator(model, BYTES, RUN, SLOTS))


@pytest.mark.slow
def test_a_model_of_random_weights_copies_its_values_and_one_seed_is_one_text(random_generator):
    questions = ["cancel order 48213", "open at 10:30?", "开门 7", "come"] * 4
    hot = {"temperature": tf.fill([16], 3.0), "seed": tf.range(16, dtype=tf.int64)}
    answer = ask(random_generator, *questions, min_score=0.0, **hot)
    sources = [
        b" \n ".join([question.encode(), *row]) for question, row in zip(questions, answer["retrieved"], strict=True)
    ]
    ended = answer["num_tokens"] < 40  # a text that is cut may stop in a value, and is not given
    copied = are_copied(tf.constant(answer["generated"]), tf.constant(sources), SLOTS).numpy()
    assert copied[ended].all()
    assert ended.any()
    alone = ask(
        random_generator, questions[3], min_score=0.0, temperature=tf.fill([1], 3.0), seed=tf.constant([3], tf.int64)
    )
    assert alone["generated"][0] == answer["generated"][3]
    assert len(set(answer["generated"])) > 8


@pytest.mark.slow
def test_settings_that_cannot_be_met_are_refused_and_no_row_is_fine(random_generator):
    for wrong in ({"max_new_tokens": tf.constant([0])}, {"temperature": tf.constant([-1.0])}):
        with pytest.raises(tf.errors.InvalidArgumentError, match="has to be"):
            ask(random_generator, "open", **wrong)
    nothing = {"question": tf.zeros([0], tf.string), "context": tf.zeros([0], tf.string)}
    settings = {
        "max_new_tokens": tf.zeros([0], tf.int32),
        "temperature": tf.zeros([0]),
        "seed": tf.zeros([0], tf.int64),
    }
    assert random_generator.traced()(**nothing, **settings, min_score=tf.zeros([0]))["reply"].shape == [0]
