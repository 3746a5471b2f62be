"""Which texts count, and when? Copies, late texts, closing slots, and a state that goes on as if nothing had been."""

import json
import random

import pytest

from apps.financial_sentiment.monitoring.detector import DetectorSettings
from apps.financial_sentiment.monitoring.events import BadLine, Event, in_words, read_event
from apps.financial_sentiment.monitoring.windows import Windows

NOW = 1_800_000_000.0
HOUR = 3600
SETTINGS = DetectorSettings(step_s=600, window_s=3600, history_days=2, min_history=60, cooldown_s=2 * HOUR, mood_s=600)


def event(time, key=None, text="a text"):
    return Event(float(time), text, None, key or f"{time}")


def windows(**options):
    return Windows(SETTINGS, options.pop("lateness_s", 60.0), options.pop("dedupe_s", 3600.0), **options)


def play(found, hours, bad_hours=(), start_hour=0):
    """A text a minute; one in ten is negative, in bad hours three of four; returns the alerts."""
    moods = []
    for minute in range(start_hour * 60, (start_hour + hours) * 60):
        is_bad = minute % 4 > 0 if minute // 60 in bad_hours else minute % 10 == 0
        one = event(1_000_000 * 600 + 60 * minute, text=f"text {minute}")
        moods += found.add(one, "banks", 0.9 if is_bad else 0.05, is_bad)
    return [mood.alert for mood in moods if mood.alert is not None]


def test_a_slot_closes_when_the_watermark_has_passed_its_end():
    found = windows(lateness_s=60.0)
    assert found.add(event(1200), "banks", 0.9, True) == []
    assert found.add(event(1859), "banks", 0.1, False) == []
    (mood,) = found.add(event(1860), "banks", 0.1, False)  # 1860 - 60 = 1800
    assert (mood.topic, mood.end, mood.verdict.texts, mood.verdict.negative) == ("banks", 1800.0, 1, 1)


def test_late_texts_and_copies_are_refused_and_texts_out_of_order_are_not():
    found = windows()
    found.add(event(1200, "a"), "banks", 0.1, False)
    found.add(event(2000, "b"), "banks", 0.1, False)  # closes up to 1800
    assert found.refusal(event(1799, "c")) == "late"
    assert found.refusal(event(1800, "d")) is None
    assert found.refusal(event(2000, "b")) == "duplicate"
    assert found.refusal(event(1200, "a")) == "duplicate"


def test_what_a_copy_is_known_by_is_forgotten_with_time():
    found = windows(dedupe_s=600.0)
    found.add(event(1200, "a"), "banks", 0.1, False)
    found.add(event(9000, "b"), "banks", 0.1, False)
    assert found.refusal(event(9100, "a")) is None
    assert len(found.to_json()["seen"]) == 1


def test_a_surge_raises_one_alert_per_cool_down_and_names_its_window():
    alerts = play(windows(), 12, bad_hours=(8,))
    (alert,) = alerts
    assert alert["topic"] == "banks"
    assert alert["id"] == f"banks@{alert['window_end']}"
    assert alert["window_start"] >= in_words(600_000_000 + 7 * HOUR)
    assert 10 * alert["negative"] >= 5 * alert["texts"] >= 100
    assert alert["share"] > 2 * alert["expected_share"]
    assert alert["causes"][0]["text"].startswith("text ")


def test_a_share_that_stays_high_becomes_the_new_normal():
    settings = SETTINGS.model_copy(update={"new_normal_s": 6 * HOUR, "history_days": 14})
    found = Windows(settings, 60.0, 3600.0)
    alerts = play(found, 300, bad_hours=[*range(200, 280), 295])
    # One each cool-down of two hours in the first six, and then none.
    assert 3 <= len(alerts) <= 4
    assert alerts[-1]["window_end"] < in_words(600_000_000 + 207 * HOUR)


def test_texts_of_alerts_are_masked_before_they_are_kept():
    found = windows(mask=lambda text: "masked")
    play(found, 2)
    assert "text 1" not in json.dumps(found.to_json()["topics"])


@pytest.mark.parametrize("cut_hour", [1, 8, 9, 20])
def test_restored_windows_go_on_as_if_nothing_had_been(cut_hour):
    whole = play(windows(), 30, bad_hours=(8, 25))
    first, second = windows(), windows()
    alerts = play(first, cut_hour, bad_hours=(8, 25))
    second.restore(json.loads(json.dumps(first.to_json())))
    alerts += play(second, 30 - cut_hour, bad_hours=(8, 25), start_hour=cut_hour)
    assert alerts == whole
    assert len(whole) == 2


def test_the_order_within_the_lateness_does_not_change_an_alert():
    chance = random.Random(1)
    times = [60 * minute for minute in range(12 * 60)]
    shuffled = sorted(times, key=lambda time: time + chance.uniform(0, 500))

    def alerts_of(order):
        found, moods = windows(lateness_s=600.0), []
        for time in order:
            is_bad = time // HOUR == 8 or time % 600 == 0
            moods += found.add(event(time), "banks", 0.5 + time / 60 / 2000 if is_bad else 0.05, is_bad)
        return [{**mood.alert, "watermark": ""} for mood in moods + found.finish() if mood.alert is not None]

    assert alerts_of(shuffled) == alerts_of(times)
    assert len(alerts_of(times)) == 1


def test_a_long_gap_is_crossed_and_what_lies_before_it_is_forgotten():
    found = windows()
    play(found, 2)
    found.add(event(10**9), "banks", 0.1, False)
    moods = found.finish()
    assert [mood.verdict.texts for mood in moods][-1] == 1
    assert moods[-1].verdict.expected_share != moods[-1].verdict.expected_share  # NaN: no history


def test_a_text_far_ahead_of_all_others_is_refused_and_does_not_move_the_clock():
    found = windows(ahead_s=24.0 * HOUR)
    found.add(event(1200), "banks", 0.1, False)
    assert found.refusal(event(1200 + 24 * HOUR, "a day")) is None
    for day in (2, 3, 4, 5):
        assert found.refusal(event(1200 + day * 24 * HOUR, "wrong clock")) == "ahead"
        assert found.refusal(event(1300 + day, f"usual {day}")) is None
    assert found.newest == 1200


def test_three_texts_in_a_row_far_ahead_are_believed():
    found = windows(ahead_s=24.0 * HOUR)
    found.add(event(1200), "banks", 0.1, False)
    after = [event(1200 + 72 * HOUR + second) for second in range(3)]
    assert [found.refusal(after[0]), found.refusal(after[1])] == ["ahead", "ahead"]
    second = windows(ahead_s=24.0 * HOUR)
    second.restore(json.loads(json.dumps(found.to_json())))  # it is remembered across a restart
    assert second.refusal(after[2]) is None


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ('"1970-01-02T00:00:00Z"', 86400),
        ('"1970-01-02"', 86400),
        ('"1970-01-02T08:00:00+08:00"', 86400),
        ("86400.5", 86400.5),
        ('"86400"', 86400),
    ],
)
def test_times_are_iso_8601_or_seconds(time, seconds):
    found = read_event(f'{{"time": {time}, "text": "利润下降", "topic": "银行"}}'.encode(), None, NOW)
    assert (found.time, found.text, found.topic) == (seconds, "利润下降", "银行")


def test_copies_have_one_key_by_id_or_else_by_time_and_text():
    def key(**fields):
        return read_event(json.dumps({"time": 5, "text": "a", **fields}).encode(), None, NOW).key

    assert key() == key()
    assert key() != key(text="b")
    assert key() != key(time=6)
    assert key(id=7) == key(id=7, text="b", time=6)
    assert key(id=7) != key(id=8)


def test_a_tsv_row_is_read_by_its_header_and_empty_fields_are_absent():
    found = read_event(b"5\tProfit fell\t", ("time", "text", "topic"), NOW)
    assert (found.time, found.text, found.topic) == (5.0, "Profit fell", None)
    with pytest.raises(BadLine, match=r"2 columns, the header has 3 \(time, text, topic\)"):
        read_event(b"5\tx", ("time", "text", "topic"), NOW)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON"),
        (b"[1]", "a list, not an object"),
        (b'{"text": "x"}', "no time"),
        (b'{"time": true, "text": "x"}', "neither ISO 8601 nor seconds"),
        (b'{"time": NaN, "text": "x"}', "out of range"),
        (b'{"time": 1.7e12, "text": "x"}', "not milliseconds"),
        (b'{"time": 1800009999, "text": "x"}', "lies in the future"),
        (b'{"time": 1, "text": " "}', "text is empty"),
        (b'{"time": 1, "text": "x", "topic": 3}', "topic is a int"),
        (b"\xff", "not UTF-8 at byte 0"),
        (b"[" * 100_000, "not JSON"),
        (b" " * (1 << 21), "longer than"),
    ],
)
def test_what_is_no_event_is_refused_with_a_reason(line, reason):
    with pytest.raises(BadLine, match=reason):
        read_event(line, None, NOW)
