"""Which texts belong together in time? Slots of event time per topic, closed by a watermark and then judged."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from apps.financial_sentiment.monitoring.detector import (
    HOUR_S,
    DetectorSettings,
    Rhythm,
    Verdict,
    evidence_of,
    fit_rhythm,
    judge,
)
from apps.financial_sentiment.monitoring.events import Event, in_words

CAUSES_PER_SLOT = 5
CAUSES_PER_ALERT = 10
AHEAD_IN_A_ROW = 3  # so many texts far ahead of the others are believed, and the clock moves
# W slots of the longest window; H hours of history


@dataclass(frozen=True)
class Mood:
    """A topic's window at the end of a slot; `alert` is the line of the alert log, if it raised one."""

    topic: str
    end: float
    verdict: Verdict
    alert: dict[str, Any] | None


@dataclass
class _Open:
    """A slot that still takes texts."""

    probabilities: list[float] = field(default_factory=list)  # of being negative
    negative: int = 0
    causes: list[dict[str, Any]] = field(default_factory=list)


_NOTHING = _Open()
_COLUMNS = _TEXTS, _NEGATIVE, _MASS, _EVIDENCE, _LEFT_OUT = range(5)  # of a slot


@dataclass
class _Topic:
    """The last W closed slots of a topic with the surest negative texts of each, and the hours of history before.

    A slot becomes history when it leaves the window, unless it was part of a surge.
    """

    slots: np.ndarray  # [W, 5]: the columns above; the last is 1 where the slot will not become history
    causes: deque[list[dict[str, Any]]]
    history: dict[int, list[float]] = field(default_factory=dict)  # hour since 1970 -> texts, sum of probabilities
    rhythm: Rhythm | None = None  # fitted at the beginning of each hour
    quiet_until: float = 0.0
    surging: int = 0  # slots in a row


class Windows:
    """Counts of each topic by event time.

    A slot closes when the watermark (the newest time seen, less the allowed lateness) has passed its end. The outcome
    depends on the order of the events alone, not on how they were grouped into batches.

    Args:
      settings: of the detector.
      lateness_s: how much later than a younger text a text may come in and still be counted.
      dedupe_s: how long before the watermark a copy is still known as one.
      ahead_s: a text that is further ahead of the newest one is refused, unless it is the third such one in a row.
      mask: what a text goes through before it is kept for an alert.
    """

    def __init__(
        self,
        settings: DetectorSettings,
        lateness_s: float,
        dedupe_s: float,
        mask: Callable[[str], str] = str,
        ahead_s: float = math.inf,
    ) -> None:
        self.settings, self.lateness_s, self.dedupe_s, self.mask = settings, lateness_s, dedupe_s, mask
        self.newest, self.ahead_s = -math.inf, ahead_s
        self._ahead = 0  # texts in a row
        self._closed: int | None = None  # the last closed slot
        self._open: dict[int, dict[str, _Open]] = {}
        self._topics: dict[str, _Topic] = {}
        self._seen: dict[str, float] = {}

    @property
    def watermark(self) -> float:
        """No text before this time is waited for."""
        return float(self.newest - self.lateness_s)

    def knows(self, event: Event) -> bool:
        """Whether a copy of it has been counted."""
        return event.key in self._seen

    def refusal(self, event: Event) -> str | None:
        """Why an event is not counted: "duplicate", "late", "ahead", or None. To be asked once of each, in order."""
        if self.knows(event):
            return "duplicate"
        if self._closed is None:
            return None
        self._ahead = self._ahead + 1 if event.time > self.newest + self.ahead_s else 0
        if 0 < self._ahead < AHEAD_IN_A_ROW:
            return "ahead"
        return "late" if self._slot(event.time) <= self._closed else None

    def add(self, event: Event, topic: str, negative: float, is_negative: bool) -> list[Mood]:
        """Counts an event and closes the slots that it puts behind the watermark.

        Args:
          event: that `refusal` let through.
          topic: under which it is counted.
          negative: the model's probability of a negative text.
          is_negative: whether that is its label.
        """
        self._seen[event.key] = event.time
        if self._closed is None:
            self._closed = self._slot(event.time - self.lateness_s) - 1
        slot = self._open.setdefault(self._slot(event.time), {}).setdefault(topic, _Open())
        probability = round(negative, 4)
        slot.probabilities.append(probability)
        if is_negative:
            slot.negative += 1
            self._keep_cause(slot, event, probability)
        self.newest = max(self.newest, event.time)
        last = self._slot(self.watermark) - 1
        return self._close_up_to(last) if last > self._closed else []

    def _keep_cause(self, slot: _Open, event: Event, probability: float) -> None:
        if len(slot.causes) == CAUSES_PER_SLOT and probability <= slot.causes[-1]["probability"]:
            return
        cause = {"time": in_words(event.time), "text": self.mask(event.text), "probability": probability}
        slot.causes = sorted([*slot.causes, cause], key=_surest_first)[:CAUSES_PER_SLOT]

    def finish(self) -> list[Mood]:
        """Closes all slots that hold texts: the input has ended."""
        return self._close_up_to(max(self._open), is_end=True) if self._open else []

    def to_json(self) -> dict[str, Any]:
        """Everything that `restore` needs."""
        topics = {
            name: {
                "slots": one.slots.tolist(),
                "causes": list(one.causes),
                "history": one.history,
                "rhythm": one.rhythm and [one.rhythm.coefficients, one.rhythm.covariance],
                "quiet_until": one.quiet_until,
                "surging": one.surging,
            }
            for name, one in self._topics.items()
        }
        opened = {str(slot): {name: asdict(one) for name, one in topics.items()} for slot, topics in self._open.items()}
        newest = None if self._closed is None else self.newest
        return {
            "newest": newest, "closed": self._closed, "ahead": self._ahead, "open": opened, "topics": topics,
            "seen": self._seen,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over what `to_json` wrote, with equal settings."""
        self.newest = -math.inf if state["newest"] is None else state["newest"]
        self._closed, self._ahead, self._seen = state["closed"], state["ahead"], state["seen"]
        self._open = {
            int(slot): {name: _Open(**one) for name, one in topics.items()} for slot, topics in state["open"].items()
        }
        for name, one in state["topics"].items():
            rhythm = one["rhythm"] and Rhythm(tuple(one["rhythm"][0]), tuple(map(tuple, one["rhythm"][1])))
            history = {int(hour): counts for hour, counts in one["history"].items()}
            causes = deque(one["causes"], maxlen=self.settings.window_slots)
            self._topics[name] = _Topic(
                np.array(one["slots"], float), causes, history, rhythm, one["quiet_until"], one["surging"]
            )

    def _slot(self, time: float) -> int:
        return int(time // self.settings.step_s)

    def _close_up_to(self, last: int, is_end: bool = False) -> list[Mood]:
        moods: list[Mood] = []
        assert self._closed is not None, "a slot closes after the first event"
        while self._closed < last:
            self._closed += 1
            gap = min([*self._open, last]) - self._closed
            if gap * self.settings.step_s > self.settings.history_hours * HOUR_S:  # nothing remembered reaches across
                self._topics.clear()
                self._closed += gap
            moods += self._close(self._closed, self._open.pop(self._closed, {}), is_end and self._closed == last)
        horizon = self.watermark - self.dedupe_s
        self._seen = {key: time for key, time in self._seen.items() if time >= horizon}
        return moods

    def _close(self, slot: int, found: dict[str, _Open], is_end: bool) -> list[Mood]:
        end = float((slot + 1) * self.settings.step_s)
        for name in found.keys() - self._topics.keys():
            slots = self.settings.window_slots
            self._topics[name] = _Topic(np.zeros([slots, len(_COLUMNS)]), deque(maxlen=slots))
        moods = []
        for name in sorted(self._topics):
            topic = self._topics[name]
            expected = self._move_on(topic, slot, found.get(name, _NOTHING))
            texts, negative, _, evidence, _ = topic.slots.T
            verdict = judge(texts, negative, evidence, expected, self.settings)
            alert = self._alert(name, topic, end, verdict)
            is_due = is_end or end % self.settings.mood_s < self.settings.step_s
            if verdict.texts and (alert is not None or is_due):
                moods.append(Mood(name, end, verdict, alert))
        return moods

    def _move_on(self, topic: _Topic, slot: int, latest: _Open) -> float:
        """Puts a slot to the end of the window, the first one into the history, and returns the share expected now."""
        settings, oldest = self.settings, topic.slots[0]
        hour = (slot - settings.window_slots) * settings.step_s // HOUR_S
        if oldest[_TEXTS] and not oldest[_LEFT_OUT]:
            counts = topic.history.setdefault(hour, [0.0, 0.0])
            counts[0] += float(oldest[_TEXTS])
            counts[1] += float(oldest[_MASS])
        if topic.rhythm is None or slot * settings.step_s % HOUR_S < settings.step_s:
            topic.history = {one: kept for one, kept in topic.history.items() if one > hour - settings.history_hours}
            texts, mass = np.array(list(topic.history.values())).reshape(-1, 2).T
            topic.rhythm = fit_rhythm(np.array(list(topic.history)), texts, mass, settings)
        expected, evidence = math.nan, 0.0
        if topic.rhythm is not None:
            expected = topic.rhythm.expected((slot + 0.5) * settings.step_s, settings.caution)
            evidence = evidence_of(latest.probabilities, expected, settings.ratio)
        topic.slots[:-1] = topic.slots[1:]
        topic.slots[-1] = len(latest.probabilities), latest.negative, math.fsum(latest.probabilities), evidence, 0
        topic.causes.append(latest.causes)
        return expected

    def _alert(self, name: str, topic: _Topic, end: float, verdict: Verdict) -> dict[str, Any] | None:
        topic.surging = topic.surging + 1 if verdict.is_surge else 0
        if not verdict.is_surge:
            return None
        settings = self.settings
        if topic.surging * settings.step_s > settings.new_normal_s:  # what was before is no longer to be expected
            topic.history, topic.rhythm, topic.surging = {}, None, 0
            topic.slots[:, _LEFT_OUT] = 0
            return None
        topic.slots[-verdict.slots :, _LEFT_OUT] = 1
        if end < topic.quiet_until:
            return None
        topic.quiet_until = end + settings.cooldown_s
        start = end - verdict.slots * settings.step_s
        texts, negative = (int(count) for count in topic.slots[-verdict.slots :, [_TEXTS, _NEGATIVE]].sum(axis=0))
        recent = list(topic.causes)[-verdict.slots :]
        return {
            "id": f"{name}@{in_words(end)}",
            "topic": name,
            "window_start": in_words(start),
            "window_end": in_words(end),
            "watermark": in_words(self.watermark),
            "texts": texts,
            "negative": negative,
            "share": round(negative / texts, 4),
            "expected_share": round(verdict.expected_share, 4),
            "evidence": round(verdict.evidence, 2),
            "causes": sorted((cause for slot in recent for cause in slot), key=_surest_first)[:CAUSES_PER_ALERT],
        }


def _surest_first(cause: dict[str, Any]) -> float:
    return -float(cause["probability"])
