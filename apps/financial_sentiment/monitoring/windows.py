"""Which texts belong together in time? Slots of event time per topic, closed by a watermark and then judged."""

import base64
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from apps.financial_sentiment.monitoring.detector import DetectorSettings, Verdict, judge
from apps.financial_sentiment.monitoring.events import Event, in_words

CAUSES_PER_SLOT = 5
CAUSES_PER_ALERT = 10
# S slots that are remembered


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

    total: int = 0
    negative: int = 0
    causes: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class _Topic:
    """Closed slots of a topic, oldest first, and the surest negative texts of the last of them."""

    total: np.ndarray
    negative: np.ndarray
    excluded: np.ndarray
    causes: deque[list[dict[str, Any]]]
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
      mask: what a text goes through before it is kept for an alert.
    """

    def __init__(
        self, settings: DetectorSettings, lateness_s: float, dedupe_s: float, mask: Callable[[str], str] = str
    ) -> None:
        self.settings, self.lateness_s, self.dedupe_s, self.mask = settings, lateness_s, dedupe_s, mask
        self.newest = -np.inf
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
        """Why an event is not counted: "duplicate", "late", or None."""
        if self.knows(event):
            return "duplicate"
        if self._closed is not None and self._slot(event.time) <= self._closed:
            return "late"
        return None

    def add(self, event: Event, topic: str, negative: float | None) -> list[Mood]:
        """Counts an event and closes the slots that it puts behind the watermark.

        Args:
          event: that `refusal` let through.
          topic: under which it is counted.
          negative: the model's probability of a negative text, None for other texts.
        """
        self._seen[event.key] = event.time
        if self._closed is None:
            self._closed = self._slot(event.time - self.lateness_s) - 1
        slot = self._open.setdefault(self._slot(event.time), {}).setdefault(topic, _Open())
        slot.total += 1
        if negative is not None:
            slot.negative += 1
            self._keep_cause(slot, event, round(negative, 4))
        self.newest = max(self.newest, event.time)
        return self._close_up_to(self._slot(self.watermark) - 1)

    def _keep_cause(self, slot: _Open, event: Event, probability: float) -> None:
        if len(slot.causes) == CAUSES_PER_SLOT and probability <= slot.causes[-1]["probability"]:
            return
        cause = {"time": in_words(event.time), "text": self.mask(event.text), "probability": probability}
        slot.causes = sorted([*slot.causes, cause], key=_surest_first)[:CAUSES_PER_SLOT]

    def finish(self) -> list[Mood]:
        """Closes all slots that hold texts: the input has ended."""
        return self._close_up_to(max(self._open, default=-1))

    def to_json(self) -> dict[str, Any]:
        """Everything that `restore` needs."""
        topics = {
            name: {
                "total": _packed(one.total),
                "negative": _packed(one.negative),
                "excluded": _packed(one.excluded),
                "causes": list(one.causes),
                "quiet_until": one.quiet_until,
                "surging": one.surging,
            }
            for name, one in self._topics.items()
        }
        opened = {str(slot): {name: asdict(one) for name, one in topics.items()} for slot, topics in self._open.items()}
        newest = None if self._closed is None else self.newest
        return {"newest": newest, "closed": self._closed, "open": opened, "topics": topics, "seen": self._seen}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over what `to_json` wrote, with equal settings."""
        self.newest = -np.inf if state["newest"] is None else state["newest"]
        self._closed, self._seen = state["closed"], state["seen"]
        self._open = {
            int(slot): {name: _Open(**one) for name, one in topics.items()} for slot, topics in state["open"].items()
        }
        for name, one in state["topics"].items():
            total, negative, excluded = (_unpacked(one[key]) for key in ("total", "negative", "excluded"))
            causes = deque(one["causes"], maxlen=self.settings.window_slots)
            self._topics[name] = _Topic(total, negative, excluded, causes, one["quiet_until"], one["surging"])

    def _slot(self, time: float) -> int:
        return int(time // self.settings.step_s)

    def _close_up_to(self, last: int) -> list[Mood]:
        if self._closed is None or last <= self._closed:
            return []
        moods: list[Mood] = []
        while self._closed < last:
            self._closed += 1
            gap = min([*self._open, last]) - self._closed
            if gap > self.settings.num_slots:  # nothing that is remembered reaches across
                self._topics.clear()
                self._closed += gap
            moods += self._close(self._closed, self._open.pop(self._closed, {}))
        horizon = self.watermark - self.dedupe_s
        self._seen = {key: time for key, time in self._seen.items() if time >= horizon}
        return moods

    def _close(self, slot: int, found: dict[str, _Open]) -> list[Mood]:
        end = float((slot + 1) * self.settings.step_s)
        for name in found.keys() - self._topics.keys():
            self._topics[name] = self._new_topic()
        moods = []
        for name in sorted(self._topics):
            topic, latest = self._topics[name], found.get(name, _Open())
            for array, value in ((topic.total, latest.total), (topic.negative, latest.negative), (topic.excluded, 0)):
                array[:-1] = array[1:]
                array[-1] = value
            topic.causes.append(latest.causes)
            verdict = judge(topic.total, topic.negative, topic.excluded, self.settings)
            if verdict.texts:
                moods.append(Mood(name, end, verdict, self._alert(name, topic, end, verdict)))
        return moods

    def _alert(self, name: str, topic: _Topic, end: float, verdict: Verdict) -> dict[str, Any] | None:
        topic.surging = topic.surging + 1 if verdict.is_surge else 0
        if not verdict.is_surge:
            return None
        settings = self.settings
        if topic.surging * settings.step_s <= settings.new_normal_s:
            topic.excluded[-settings.window_slots :] = 1
        if end < topic.quiet_until:
            return None
        topic.quiet_until = end + settings.cooldown_s
        start = end - settings.window_slots * settings.step_s
        causes = sorted((cause for slot in topic.causes for cause in slot), key=_surest_first)
        return {
            "id": f"{name}@{in_words(start)}",
            "topic": name,
            "window_start": in_words(start),
            "window_end": in_words(end),
            "watermark": in_words(self.watermark),
            "texts": verdict.texts,
            "negative": verdict.negative,
            "share": round(verdict.share, 4),
            "expected_share": round(verdict.expected_share, 4),
            "p_value": float(f"{verdict.p_value:.3g}"),
            "causes": causes[:CAUSES_PER_ALERT],
        }

    def _new_topic(self) -> _Topic:
        total, negative, excluded = (np.zeros(self.settings.num_slots, np.int32) for _ in range(3))
        return _Topic(total, negative, excluded, deque(maxlen=self.settings.window_slots))


def _surest_first(cause: dict[str, Any]) -> float:
    return -float(cause["probability"])


def _packed(array: np.ndarray) -> str:
    return base64.b64encode(array.astype("<i4").tobytes()).decode("ascii")


def _unpacked(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<i4").astype(np.int32)
