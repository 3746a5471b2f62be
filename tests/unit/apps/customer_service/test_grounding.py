"""Does the generator learn from what retrieval finds without the row itself, and is a right reply told from a wrong?"""

import numpy as np
import pytest

from apps.customer_service import generator, grounding, prepare
from apps.customer_service.assembly import entries_of
from apps.customer_service.formats import Pair
from kerasllm import decisions, models, text
from kerasllm.config import make_run
from kerasllm.errors import ConfigError
from kerasllm.retrieval import ReplyIndex
from kerasllm.text.slots import read_slots
from kerasllm.trained import Trained

SLOTS = read_slots(prepare.SLOTS)
HISTORY = [
    Pair("cancel order 48213", "Order {order_number} is cancelled."),
    Pair("please cancel it", "Order {order_number} is cancelled."),
    Pair("when do you open", "We open at nine."),
    Pair("When do you open", "We open at nine."),  # the same pair in another dialogue
    Pair("where are you", "In the main street."),
]
SETTINGS = {
    "backbone": {"num_layers": 1, "hidden_dim": 16, "num_heads": 2, "max_length": 320},
    "matching": {"query_length": 16, "passage_length": 32},
    "grounding": {"replies": 2, "max_new_tokens": 40},
    "train": {"steps": 1, "sequence_length": 320},
    "export": {"sequence_length": 32},
}


@pytest.fixture(scope="module")
def index() -> ReplyIndex:
    run = make_run({**SETTINGS, "objective": {"task": "text_matching", "pooling": "mean"}})
    words = text.train_wordpiece([f"{pair.question} {pair.reply}" for pair in HISTORY] * 20, 200)
    catalogue = list(dict.fromkeys(pair.reply for pair in HISTORY))
    encoder = Trained(run, words, models.from_run(run, words.vocab_size))
    return ReplyIndex(encoder, catalogue, *entries_of(catalogue, HISTORY, 20), fusion="weighted", dense_share=0.1)


RUN = make_run({**SETTINGS, "objective": {"task": "dialogue"}})


def test_a_row_finds_neither_its_question_nor_a_reply_that_only_it_was_given(index):
    grounds = grounding.find_grounds(index, HISTORY, SLOTS, RUN, HISTORY)
    replies = grounds.replies.tolist()
    # Given to another question too: the reply is found, by that question and by its own words.
    assert "Order 48213 is cancelled." in replies[0]
    # Given to this question alone, twice: it is not found at all.
    assert not any("We open at nine." in row for row in replies[2:4])
    assert not any("In the main street." in row for row in replies[4:])
    assert grounds.targets[:3] == [
        "Order 48213 is cancelled.",
        "Order {order_number} is cancelled.",
        "We open at nine.",
    ]


def test_a_row_of_another_part_finds_everything(index):
    asked = [Pair("When do you open today?", "We open at nine."), Pair("where are you", "Far away.")]
    grounds = grounding.find_grounds(index, asked, SLOTS, RUN, HISTORY)
    assert "We open at nine." in grounds.replies[0]
    assert "In the main street." in grounds.replies[1]


def test_only_the_reply_is_learned_behind_its_prompt(index):
    tokens = text.ByteTokenizer()
    learned = grounding.learned(index, HISTORY[:1], SLOTS, tokens, RUN, HISTORY)
    taught = learned.labels[learned.weights > 0]
    assert bytes(int(byte) - 5 for byte in taught[:-1]).decode() == "Order 48213 is cancelled.\n"
    assert taught[-1] == tokens.special.eos
    read = bytes(int(byte) - 5 for byte in learned.token_ids[1:] if byte >= 5).decode()
    assert read.startswith("System:\n1. ")
    assert "User:\ncancel order 48213\nAssistant:\nOrder 48213 is cancelled.\n" in read


def test_a_written_reply_is_right_if_it_nearly_says_one_of_the_right_ones():
    tokens = text.ByteTokenizer()
    texts = ["We open at nine!", "We close at six.", "Yes."]
    right = [["In the street.", "We open at nine."], ["We open at nine."], []]
    assert grounding.are_right(tokens, texts, right, 0.8).tolist() == [True, False, False]


def test_a_precision_out_of_reach_lets_the_writer_never_speak():
    scores = np.array([0.9, 0.8])
    assert grounding.least_score(scores, np.array([False, False]), 0.9) == decisions.NEVER
    assert grounding.least_score(np.array([0.9] * 9 + [0.1]), np.array([True] * 9 + [False]), 0.9) == pytest.approx(0.9)


def test_a_configuration_without_a_gpt_for_the_writer_says_so():
    with pytest.raises(ConfigError, match=r"no parts\.generation"):
        generator.generator_run(make_run({}), "generation")
    with pytest.raises(ConfigError, match="a generator is a gpt that learns dialogue"):
        generator.generator_run(make_run({"parts": {"generation": {"objective": {"task": "dialogue"}}}}), "generation")
