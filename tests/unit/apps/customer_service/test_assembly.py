"""By what is a reply found, which negatives are left, and what stands in a log?"""

import io
import json

import numpy as np

from apps.customer_service import assembly, chat, task
from apps.customer_service.formats import Pair
from kerasllm.config import make_run
from kerasllm.data import join_pairs

HISTORY = [Pair("q1", "A", intent="x"), Pair("q2", "A", intent="x"), Pair("q2", "A", intent="x"), Pair("q3", "B", intent="y")]  # fmt: skip # noqa: E501


def test_a_reply_is_found_by_its_text_and_the_questions_it_answered_most():
    entries, owners = assembly.entries_of(["A", "new"], HISTORY, most=1)
    assert list(zip(entries, owners, strict=True)) == [("A", 0), ("q2", 0), ("new", 1)]


def test_a_reply_of_unknown_intent_fits_every_intent():
    table = assembly._intents_of_replies(["A", "B", "new"], task.replies_of_intents(HISTORY), ("x", "y"))
    assert table.tolist() == [[1, 0], [0, 1], [1, 1]]


def test_replies_of_the_same_intent_are_no_negatives():
    pairs = [Pair("q1", "A", intent="x"), Pair("q2", "B", intent="x"), Pair("q3", "C", intent="y"), Pair("q4", "D")]
    passages = join_pairs([pair.question for pair in pairs], [pair.reply for pair in pairs])
    mined = passages.__class__(passages.queries, passages.passages, passages.right, np.array([[1, 2], [0, 3], [0, -1], [0, 1]]))  # fmt: skip # noqa: E501
    # A and B answer x; C stands for y alone; the last pair has no intent, so only its own reply is right.
    assert task._without_right_ones(mined, pairs).tolist() == [[-1, 2], [-1, 3], [0, -1], [0, 1]]


def test_queries_are_those_of_the_served_graph():
    pairs = [Pair("where is 123456", "r", "customer: hi\nassistant: hello"), Pair("now", "r")]
    assert task.queries_of(pairs, 1) == ["where is 00000 ; hello", "now"]
    assert task.queries_of([], 1) == []


def test_the_run_of_a_part_has_its_task():
    run = make_run({"parts": {"matching": {"train": {"epochs": 2}}}})
    assert task.run_of("matching", run).objective.task == "text_matching"
    assert task.run_of("matching", run).train.epochs == 2


def test_a_table_has_one_line_for_each_row_whatever_is_said():
    rows = [{"question": 'a\tb\n"c"', "score": 0.5}]
    assert assembly.table(rows, ["question", "score"]) == 'question\tscore\na b "c"\t0.5\n'


def test_a_log_is_masked_unless_told_otherwise():
    answer = dict.fromkeys(chat.SHOWN, "") | {"reply": "I write to a.b@example.com", "score": 0.5, "intent_score": 1.0}
    for mask, expected in ((True, "I write to <EMAIL>"), (False, "I write to a.b@example.com")):
        log = io.StringIO()
        chat.write_turn(log, "call 13812345678", answer, mask=mask)
        turn = json.loads(log.getvalue())
        assert turn["reply"] == expected
        assert ("<PHONE>" in turn["question"]) == mask
