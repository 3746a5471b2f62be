"""When is a share a surge? Likelihood ratios worked out by hand, and histories of known share."""

import math

import numpy as np
import pytest

from apps.financial_sentiment.monitoring.detector import (
    DetectorSettings,
    Rhythm,
    detector_settings,
    evidence_of,
    fit_rhythm,
    judge,
)
from kerasllm.errors import ConfigError

SETTINGS = DetectorSettings(window_s=600, evidence=3.0, haste=0.0, min_support=1, min_negative=1)
HOURS = np.arange(4 * 24)


def history(share=0.1, texts=60.0):
    return np.full(len(HOURS), texts), np.full(len(HOURS), texts) * share


def at(total, negative, evidence, expected=0.1, **settings):
    """The verdict of a window whose last slots are given; all before them are empty."""
    rows = [np.array([0.0] * (10 - len(row)) + row) for row in (total, negative, evidence)]
    return judge(*rows, expected, SETTINGS.model_copy(update=settings))


def test_sure_texts_give_the_likelihood_ratio_of_two_binomials():
    # 0.3 against 0.1: a negative text is 3 times, another 0.7 / 0.9 times as likely.
    assert evidence_of([1.0], 0.1, 3) == pytest.approx(math.log(3))
    assert evidence_of([1.0, 0.0, 0.0], 0.1, 3) == pytest.approx(math.log(3 * (7 / 9) ** 2))


def test_a_text_as_negative_as_expected_is_evidence_of_nothing():
    # 3 x 0.1 + (0.7 / 0.9) x 0.9 = 1
    assert evidence_of([0.1], 0.1, 3) == pytest.approx(0)
    assert evidence_of([], 0.1, 3) == 0


def test_a_raised_share_stays_below_one():
    # 3 x 0.6 is drawn in to 0.9: (0.1 / 0.4) for another text.
    assert evidence_of([0.0], 0.6, 3) == pytest.approx(math.log(0.25))


def test_the_likeliest_beginning_is_found():
    verdict = at([1, 1, 1, 1], [1, 0, 1, 1], [2.0, -3.0, 1.5, 2.0])
    assert (verdict.slots, verdict.evidence, verdict.is_surge) == (2, 3.5, True)
    verdict = at([1, 1, 1, 1], [1, 0, 1, 1], [3.5, -3.0, 1.5, 2.0])
    assert (verdict.slots, verdict.evidence) == (4, 4.0)
    assert (verdict.texts, verdict.negative, verdict.share) == (4, 3, 0.75)


def test_a_shorter_window_needs_more_evidence():
    # The longest window has 10 slots of a minute; one of 4 lacks 6 minutes: 0.6 x 2 nats.
    assert at([1] * 5, [0, 1, 1, 1, 1], [-9.0] + [1.0] * 4, haste=2.0).evidence == pytest.approx(4 - 1.2)


def test_few_texts_and_few_negative_texts_raise_nothing():
    assert at([9], [9], [9.0]).is_surge
    assert not at([9], [9], [9.0], min_support=10).is_surge
    assert not at([9], [4], [9.0], min_negative=5).is_surge


def test_without_enough_history_there_is_no_rhythm_and_no_alert():
    assert fit_rhythm(HOURS[:1], np.array([119.0]), np.array([20.0]), SETTINGS) is None
    assert fit_rhythm(HOURS[:0], np.zeros(0), np.zeros(0), SETTINGS) is None
    assert not at([9], [9], [9.0], expected=math.nan).is_surge


def test_a_constant_history_is_expected_at_any_hour():
    rhythm = fit_rhythm(HOURS, *history(), SETTINGS)
    assert [rhythm.expected(3600.0 * hour, 0) for hour in (0, 7, 18)] == pytest.approx([0.1] * 3)


def test_the_rhythm_of_the_day_is_followed():
    texts, _ = history(texts=6000.0)
    share = 0.2 + 0.1 * np.cos(2 * np.pi * (HOURS + 0.5 - 9) / 24)
    rhythm = fit_rhythm(HOURS, texts, texts * share, SETTINGS)
    assert rhythm.expected(9 * 3600.0, 0) == pytest.approx(0.3, abs=1e-3)
    assert rhythm.expected(21 * 3600.0, 0) == pytest.approx(0.1, abs=1e-3)


def test_little_history_makes_a_careful_judge():
    # The mean of n texts of share 0.2 has a deviation of sqrt(0.2 x 0.8 / n).
    for texts in (400, 10_000):
        rhythm = Rhythm((0.2, 0.0, 0.0), ((1 / texts, 0, 0), (0, 0, 0), (0, 0, 0)))
        assert rhythm.expected(0.0, 2) == pytest.approx(0.2 + 2 * math.sqrt(0.16 / texts))


def test_one_bad_hour_of_the_past_hardly_moves_the_expectation():
    texts, mass = history()
    mass[40] = 60  # everything was negative
    moved = fit_rhythm(HOURS, texts, mass, SETTINGS).expected(40 * 3600.0, 0)
    # At most 3 sqrt(0.1 x 0.9 x 60) = 7 of 5760 texts more, three times that at its own hour: 0.0036; else 0.028.
    assert 0.1 < moved < 0.106


def test_settings_are_given_by_name_and_refused_with_a_reason():
    assert detector_settings(["window_s=3600", "evidence=7.5"]).evidence == 7.5
    with pytest.raises(ConfigError, match="--detector windows=1: expected NAME=VALUE with a NAME of step_s"):
        detector_settings(["windows=1"])
    with pytest.raises(ConfigError, match="--detector ratio=1"):
        detector_settings(["ratio=1"])
