"""Are the figures of a classifier those worked out by hand, head by head?"""

import keras
import numpy as np
import pytest

from kerasllm import evaluation
from kerasllm.config import make_run
from kerasllm.data import NO_LABEL, OUT_OF_SCOPE, LabelledTexts
from kerasllm.decisions import ClassDecision
from kerasllm.text import WordPieceTokenizer
from kerasllm.trained import Trained

HEADS = {"mood": {"column": "m", "labels": ["bad", "good"]}, "topic": {"column": "t", "labels": ["x", "y"]}}
RUN = make_run({"objective": {"task": "text_classification"}, "data": {"heads": HEADS}})
TOKENIZER = WordPieceTokenizer(b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na")
# Answered from 0.7 on, both labels in the set from 0.2 on; out of scope below 0.6.
DECISION = ClassDecision(1.0, (0.0, 0.0), 0.8, 0.7, (), "probability", 0.6)
TRAINED = Trained(RUN, TOKENIZER, keras.Model(), {"mood": DECISION})
LOGITS = {"mood": np.log([[0.9, 0.1], [0.25, 0.75], [0.65, 0.35], [0.5, 0.5], [0.5, 0.5]]), "topic": np.zeros([5, 2])}
EXAMPLES = LabelledTexts(
    ["a", "b", "c", "d", "e"],
    {"mood": [0, 1, 1, OUT_OF_SCOPE, NO_LABEL], "topic": [NO_LABEL] * 5},
    [2, 3, 4, 5, 6],
)


def test_a_head_is_judged_on_its_own_rows():
    figures = evaluation.judge(TRAINED, EXAMPLES, LOGITS)
    assert list(figures) == ["mood"]  # nothing is labelled for the other one
    mood = figures["mood"]
    assert mood["num_examples"] == 3
    assert mood["accuracy"] == pytest.approx(2 / 3)
    # Sets: {bad}, {both}, {both}: all hold the truth, 5 labels in 3 sets. 0.9 and 0.75 are answered, both right.
    assert mood["conformal"]["coverage"] == 1.0
    assert mood["conformal"]["mean_set_size"] == pytest.approx(5 / 3)
    assert mood["abstention"]["share"] == pytest.approx(1 / 3)
    assert mood["abstention"]["accuracy_of_answered"] == 1.0
    # The one text out of scope has 0.5 < 0.6, those in scope have more.
    assert (mood["out_of_scope"]["recall"], mood["out_of_scope"]["in_scope_rejected"]) == (1.0, 0.0)
    assert mood["out_of_scope"]["auc"] == 1.0


def test_the_wrong_rows_are_listed_with_their_head():
    header, row, *rest = evaluation.misclassified(TRAINED, EXAMPLES, LOGITS).splitlines()
    assert header.split("\t") == ["row", "text", "head", "label", "predicted", "probability"]
    assert row.split("\t") == ["4", "c", "mood", "good", "bad", "0.6500"]
    assert not rest


def test_the_table_names_every_label_and_promise():
    text = evaluation.table("mood", evaluation.judge(TRAINED, EXAMPLES, LOGITS)["mood"])
    for part in ("mood: 3 texts", "0.6667", "(0.90 promised)", "accuracy of the rest 1.0000", "out of scope", "good"):
        assert part in text


def test_a_matrix_of_too_many_labels_is_not_drawn(monkeypatch):
    assert set(evaluation.pictures(TRAINED, EXAMPLES, LOGITS)) == {"confusion_matrix_mood", "confusion_matrix_topic"}
    monkeypatch.setattr(evaluation, "MOST_PICTURED", 1)
    assert evaluation.pictures(TRAINED, EXAMPLES, LOGITS) == {}
