"""When is a share a surge? Tails worked out by hand, and histories of known share."""

import numpy as np
import pytest

from apps.financial_sentiment.monitoring.detector import (
    DetectorSettings,
    beta_binomial_tail,
    detector_settings,
    judge,
)
from kerasllm.errors import ConfigError

SETTINGS = DetectorSettings(step_s=3600, window_s=3600, history_days=3, neighbourhood_s=0, recent_s=7200)


def history(share=0.1, texts=100):
    """Four days of hours of one share; the window is the last hour."""
    total = np.full(SETTINGS.num_slots, texts)
    return total, (total * share).astype(int), np.zeros(SETTINGS.num_slots, bool)


def test_the_tail_of_two_texts_is_as_by_hand():
    # A uniform share: 0, 1 and 2 negative texts of 2 are as likely, a third each.
    assert beta_binomial_tail(0, 2, 1, 1) == pytest.approx(1)
    assert beta_binomial_tail(1, 2, 1, 1) == pytest.approx(2 / 3)
    assert beta_binomial_tail(2, 2, 1, 1) == pytest.approx(1 / 3)


def test_a_sure_share_gives_the_binomial_tail():
    # 2 or more of 3 at one half: (3 + 1) / 8.
    assert beta_binomial_tail(2, 3, 1e6, 1e6) == pytest.approx(0.5, abs=1e-5)


def test_a_share_like_the_history_s_is_no_surge():
    verdict = judge(*history(), SETTINGS)
    # 5 hours of 100 texts, 10 of them negative: (50 + 0.5) / (500 + 1).
    assert verdict.expected_share == pytest.approx(50.5 / 501)
    assert (verdict.texts, verdict.negative, verdict.share, verdict.is_surge) == (100, 10, 0.1, False)


def test_a_tripled_share_is_a_surge():
    total, negative, excluded = history()
    negative[-1] = 30
    verdict = judge(total, negative, excluded, SETTINGS)
    assert verdict.is_surge
    assert verdict.p_value < 1e-5


def test_a_share_that_is_usual_at_this_hour_is_no_surge():
    total, negative, excluded = history()
    negative[-1::-24] = 30  # every day at this hour
    settings = SETTINGS.model_copy(update={"recent_s": 0})
    assert not judge(total, negative, excluded, settings).is_surge


def test_few_texts_and_few_negative_texts_raise_nothing():
    total, negative, excluded = history()
    total[-1], negative[-1] = 19, 19
    assert not judge(total, negative, excluded, SETTINGS).is_surge
    total, negative, excluded = history(share=0.0)
    negative[-1] = 4
    assert not judge(total, negative, excluded, SETTINGS).is_surge
    negative[-1] = 5
    assert judge(total, negative, excluded, SETTINGS).is_surge


def test_without_enough_history_there_is_no_alert_and_no_expectation():
    total, negative, excluded = history()
    total[:-2], negative[:-2], negative[-1] = 0, 0, 90
    verdict = judge(total, negative, excluded, SETTINGS)
    assert not verdict.is_surge
    assert np.isnan(verdict.expected_share)


def test_one_bad_day_of_the_past_hardly_moves_the_expectation():
    total, negative, excluded = history()
    usual = judge(total, negative, excluded, SETTINGS).expected_share
    negative[-25] = 100  # yesterday at this hour everything was negative
    moved = judge(total, negative, excluded, SETTINGS).expected_share
    # Four parts; the day is drawn in to 0.1 + 3 sqrt(0.1 x 0.9 / 100) = 0.19: (40 + 19 + 0.5) / 501.
    assert moved == pytest.approx(59.5 / 501)
    excluded[-25] = True
    assert judge(total, negative, excluded, SETTINGS).expected_share == pytest.approx(usual, rel=0.01)


def test_settings_are_given_by_name_and_refused_with_a_reason():
    assert detector_settings(["window_s=3600", "p_value=0.001"]).p_value == 0.001
    with pytest.raises(ConfigError, match="--detector windows=1: expected NAME=VALUE with a NAME of step_s"):
        detector_settings(["windows=1"])
    with pytest.raises(ConfigError, match="--detector p_value=7"):
        detector_settings(["p_value=7"])
