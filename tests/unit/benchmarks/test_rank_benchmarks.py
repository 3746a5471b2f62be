"""Do the benchmarks of matching split without leaks, and rank without favour?"""

import json

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from benchmarks import bank_faq, rank_table, sgd_next_reply
from benchmarks.baselines import bm25
from kerasllm import data

PAIRS = data.join_pairs(["fee?", "Fee? ", "limit?"], ["one", "two", "three"])


@pytest.fixture
def candidate_seed():
    if "candidate_seed" not in flags.FLAGS:
        flags.DEFINE_integer("candidate_seed", 1, "")
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])
    with flagsaver.flagsaver(candidate_seed=1):
        yield


def test_equal_questions_share_a_part():
    many = data.join_pairs([f"q{n // 2}" + " " * (n % 2) for n in range(400)], [f"a{n}" for n in range(400)])
    parts = bank_faq.parts_of(many)
    assert parts[::2] == parts[1::2]
    assert set(parts) == {"train", "validation", "test"}


def test_the_rank_is_that_of_the_best_right_answer_and_ties_count_against_it():
    scores = np.array([[0.3, 0.9, 0.5], [0.3, 0.2, 0.5], [0.7, 0.1, 0.7]])
    # Both fee questions are answered by "one" and "two"; the limit's answer ties with a wrong one.
    assert bank_faq.ranks_of(scores, PAIRS).tolist() == [1, 2, 2]


def test_past_questions_stand_with_their_answers():
    assert bank_faq.with_questions(PAIRS.take([2])) == ["one", "two", "three limit?"]


def test_the_page_s_words_are_no_part_of_an_answer(tmp_path):
    path = tmp_path / "faq.tsv"
    path.write_text("question\tanswer\tclass\nq\tIt is free. View more\tcards\nr\tit is free.\tcards\n")
    assert bank_faq.read_faq(str(path)).passages == ["It is free."]


def test_bm25_leaves_stop_words_out():
    scores = bm25.scores(["the card", "the loan"], ["the loan", "the"])
    assert scores[0, 1] > scores[0, 0] == 0
    assert scores[1].tolist() == [0, 0]


def test_bm25_counts_as_a_share_of_its_best():
    fused = rank_table.with_bm25(np.array([[0.5, 0.1]]), np.array([[2.0, 4.0]]), 0.5)
    np.testing.assert_allclose(fused, [[0.5, 0.55]])


def dialogue(number: str, service: str, intent: str, replies: list[str]) -> str:
    turns = []
    for reply in replies:
        turns.append({"speaker": "USER", "text": f"about {reply}", "acts": [], "intent": [intent]})
        turns.append({"speaker": "SYSTEM", "text": reply, "acts": [], "intent": []})
    return json.dumps({"dialogue_id": number, "services": [service], "turns": turns})


def test_wrong_replies_are_distinct_and_of_the_same_service(tmp_path, candidate_seed):
    path = tmp_path / "dialogues.jsonl"
    lines = [
        dialogue("1", "Banks", "pay", [f"bank {n}" for n in range(11)]),
        dialogue("2", "Taxis", "ride", [f"taxi {n}" for n in range(12)]),
        dialogue("3", "Alarms", "wake", ["alarm 1", "alarm 2"]),  # too few replies for 9 wrong ones
    ]
    path.write_text("\n".join(lines) + "\n")
    exchanges = sgd_next_reply.read_exchanges(str(path), 1)
    assert exchanges[1].query == "about bank 1 ; bank 0"
    pairs = sgd_next_reply.pairs_of(exchanges)
    assert len(pairs) == 23
    for row, right in zip(sgd_next_reply.candidates(pairs), pairs.right, strict=True):
        replies = [pairs.passages[place] for place in row]
        assert len(set(replies)) == 10
        assert replies[0] == pairs.passages[right]
        assert len({reply.split()[0] for reply in replies}) == 1


def test_the_service_is_that_of_the_intent():
    assert sgd_next_reply.service_of(["Banks", "Taxis"], {"Taxis"}) == "Taxis"
    assert sgd_next_reply.service_of(["Banks", "Taxis"], set()) == "Banks"
