"""What counts as found, late, missed and false? A replay small enough to be judged by hand."""

import numpy as np
import pytest

from apps.financial_sentiment.monitoring.detector import DetectorSettings
from benchmarks import alert_replay, alert_stream
from benchmarks.alert_replay import Alert, Pool, Replay, best_threshold, fixed_threshold, judge_replay
from benchmarks.alert_stream import Surge

SETTINGS = DetectorSettings(step_s=60, cooldown_s=1800, min_support=20)
SURGES = [Surge("a", 7200.0, 10_800.0), Surge("b", 7200.0, 10_800.0), Surge("a", 18_000.0, 21_600.0)]


def replayed(counts=None, alerts=(), slots=400):
    """Slots of a minute from 0 on; each is closed one minute after its end."""
    closed = 60.0 * np.arange(2, slots + 2)
    return Replay(SURGES, list(alerts), counts or {}, closed, 0.0, 0, 0.0)


def test_alerts_are_found_late_missed_or_false_as_by_hand():
    alerts = [
        Alert("a", 9000.0, 7000.0, 8900.0),  # 30 minutes after the first surge began
        Alert("a", 9600.0, 8000.0, 9500.0),  # again, which counts once and is not false
        Alert("b", 10_860.0, 8000.0, 10_800.0),  # a minute after the end
        Alert("b", 19_000.0, 18_000.0, 19_000.0),  # the surge at that time is another topic's
    ]
    row = judge_replay(replayed(), alerts)
    assert row == {"found": 1, "late": 1, "missed": 1, "false": 1, "minutes": 30.0}


def test_an_alert_whose_window_only_meets_the_surge_s_edge_is_false():
    assert judge_replay(replayed(), [Alert("a", 12_000.0, 10_800.0, 12_000.0)])["false"] == 1
    assert judge_replay(replayed(), [Alert("a", 12_000.0, 10_799.0, 12_000.0)])["false"] == 0


def counts_of_a():
    """A text a minute; negative every tenth, and in the surges of "a" every second one."""
    counts = np.ones([400, 2], int)
    counts[:, 1] = np.arange(400) % 10 == 0
    for start in (120, 300):
        counts[start : start + 60, 1] = np.arange(60) % 2
    return {"a": counts}


def test_a_fixed_threshold_fires_when_the_window_holds_enough():
    alerts = fixed_threshold(replayed(counts_of_a()), 20, 0.4, SETTINGS)
    # Slot 135 is the first whose 20 minutes hold 8 negative texts (of 116..135: the one of 121, 123, ... 135).
    assert alerts[0] == Alert("a", 60.0 * 137, 60.0 * 116, 60.0 * 136)
    assert [alert.end for alert in alerts][:2] == [60.0 * 136, 60.0 * 166]  # quiet for 30 minutes
    row = judge_replay(replayed(), alerts)
    assert (row["found"], row["missed"], row["false"]) == (2, 1, 0)


def test_the_best_threshold_finds_what_can_be_found_without_a_false_alert():
    one = replayed(counts_of_a())
    minutes, threshold = best_threshold([one], SETTINGS)
    row = judge_replay(one, fixed_threshold(one, minutes, threshold, SETTINGS))
    assert (row["found"], row["false"]) == (2, 0)


def test_a_replay_through_the_windows_counts_each_text_once_and_finds_surges_of_sure_labels(monkeypatch):
    monkeypatch.setattr(alert_stream, "DAYS", 3)
    monkeypatch.setattr(alert_stream, "NUM_SURGES", 3)
    pool = Pool(["bad", "good", "so-so"], ["negative", "positive", "neutral"])
    found = alert_replay.replay(pool, np.array([[1.0, 0], [0, 1], [0, 1]]), 5, DetectorSettings())
    in_time = 3 * 24 * 60 * 4
    texts = sum(int(counts[:, 0].sum()) for counts in found.counts.values())
    assert 0.93 * in_time < texts < in_time  # what comes in a minute late or more does not count
    assert np.all(np.diff(found.closed[np.isfinite(found.closed)]) >= 0)
    assert judge_replay(found, found.alerts)["found"] >= 2
    assert found.events == pytest.approx(in_time * 1.005, rel=0.003)
