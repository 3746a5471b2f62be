"""Is a classifier's decision fitted as promised, does it work on few examples, and is it kept as it is?"""

import json

import numpy as np
import pytest

from kerasllm.config import Decisions
from kerasllm.decisions import (
    NEVER,
    ClassDecision,
    expected_calibration_error,
    read_decisions,
    softmax,
    write_decisions,
)
from kerasllm.errors import CheckpointError

DECISION = ClassDecision(2.0, (0.6, 0.9, NEVER), 0.7, 0.5, ("a note",))


def sample(num, seed=0, spoil=3.0):
    """Logits that are `spoil` times too sure, and labels."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=[num, 4]) * 3
    return logits * spoil, (logits + generator.gumbel(size=logits.shape)).argmax(axis=1)


def test_what_is_promised_on_held_out_examples_is_kept_on_new_ones():
    decision = ClassDecision.fit(*sample(5000), Decisions(coverage=0.9, precision=0.95))
    logits, labels = sample(5000, seed=1)
    probabilities = decision.probabilities(logits)
    assert decision.temperature == pytest.approx(3.0, rel=0.1)
    assert expected_calibration_error(softmax(logits), labels) > 0.1
    assert expected_calibration_error(probabilities, labels) < 0.03
    # Three standard errors: sqrt(0.9 * 0.1 * 2 / 5000) = 0.006 of the coverage; of the precision no more.
    assert decision.sets(probabilities)[np.arange(5000), labels].mean() > 0.9 - 0.018
    answered = ~decision.abstains(probabilities)
    assert 0.3 < answered.mean() < 0.95
    assert (probabilities.argmax(axis=1) == labels)[answered].mean() > 0.95 - 0.018
    assert decision.notes == ()


def test_an_answer_needs_the_threshold_of_its_class_and_the_common_one():
    rows = [[0.6, 0.3, 0.1], [0.59, 0.31, 0.1], [0.15, 0.85, 0.0], [0.1, 0.9, 0.0], [0.0, 0.0, 1.0]]
    assert DECISION.abstains(rows).tolist() == [False, True, True, False, True]
    strict = ClassDecision(1.0, (0.6, 0.6, 0.6), 0.7, 0.88)
    assert strict.abstains(rows).tolist() == [True, True, True, False, False]


def test_probabilities_are_scaled_and_sets_follow_the_conformal_threshold():
    # softmax((2 ln 2, 0, 0) / 2) = (2, 1, 1) / 4; within 1 - p <= 0.7 is the first alone.
    probabilities = DECISION.probabilities([[2 * np.log(2), 0, 0]])
    np.testing.assert_allclose(probabilities, [[0.5, 0.25, 0.25]])
    assert DECISION.sets(probabilities).tolist() == [[True, False, False]]


def test_a_class_may_be_answered_where_all_together_are_not_sure_enough():
    # Class 0 at 0.6: 20 of 20 right; class 1 at 0.9: 10 of 20 right. Together 0.75 and, the surer ones first, 0.5.
    probabilities = np.array([[0.6, 0.4]] * 20 + [[0.1, 0.9]] * 20)
    labels = [0] * 20 + [1, 0] * 10
    decision = ClassDecision.fit(np.log(probabilities), labels, Decisions(precision=0.9))
    scaled = decision.probabilities(np.log(probabilities))
    assert decision.abstains(scaled).tolist() == [False] * 20 + [True] * 20
    assert decision.notes == ("Never answered, for want of precision: classes 1.",)


@pytest.mark.parametrize("num", [0, 1, 3])
def test_a_tiny_validation_set_promises_nothing_and_says_so(num):
    decision = ClassDecision.fit(np.eye(3)[:num] * 5, np.arange(num), Decisions())
    probabilities = decision.probabilities(np.eye(3) * 50)
    assert decision.abstains(probabilities).all()
    assert decision.sets(probabilities).all()
    assert any("never answers" in note for note in decision.notes)


def test_examples_that_are_all_right_say_that_the_temperature_is_a_bound():
    decision = ClassDecision.fit(np.eye(2)[[0, 1] * 20], [0, 1] * 20, Decisions())
    assert decision.temperature == pytest.approx(0.05)
    assert decision.notes == (
        "The temperature 0.05 is a bound of its fit: the 40 examples do not settle it.",
        "The most probable label alone is right in 1.000: the sets cover at least that, more than the coverage of 0.9.",
    )


def test_before_anything_is_fitted_every_text_is_answered():
    decision = ClassDecision.undecided(3)
    np.testing.assert_allclose(decision.probabilities(np.log([[1.0, 1.0, 2.0]])), [[0.25, 0.25, 0.5]])
    assert not decision.abstains([[0.34, 0.33, 0.33]]).any()


def test_decisions_are_read_as_they_were_written(tmp_path):
    heads = {"sentiment": DECISION, "topic": ClassDecision.fit(*sample(50), Decisions())}
    write_decisions(tmp_path / "decisions.json", heads)
    assert read_decisions(tmp_path / "decisions.json") == heads
    tree = json.loads((tmp_path / "decisions.json").read_text())
    assert tree["format_version"] == 1
    assert tree["heads"]["sentiment"]["thresholds"] == [0.6, 0.9, NEVER]
    assert [path.name for path in tmp_path.iterdir()] == ["decisions.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no decisions can be read"),
        ("{", "no decisions can be read"),
        ('{"heads": {}}', "format_version"),
        ('{"format_version": 2, "heads": {}}', "format_version 2, this version reads 1"),
        ('{"format_version": 1, "heads": {"a": {"temperature": 1}}}', "not the decisions of a head"),
        ('{"format_version": 1, "heads": {"a": 1}}', "not the decisions of a head"),
    ],
)
def test_damaged_decisions_are_named(tmp_path, content, message):
    path = tmp_path / "decisions.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_decisions(path)
    assert str(path) in str(caught.value)
