"""How do lines become alerts? Read, drop copies, score, count, commit; again until the input ends."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from apps.financial_sentiment.monitoring.events import BadLine, Event, in_words, read_event
from apps.financial_sentiment.monitoring.journal import Journal
from apps.financial_sentiment.monitoring.scoring import Score, Stopped
from apps.financial_sentiment.monitoring.sources import Files, Line, Spool, wait_for_lines
from apps.financial_sentiment.monitoring.windows import Mood, Windows

LOG = logging.getLogger("kerasllm.monitor")
POLL_S = 0.2
COMMIT_SHARE = 0.1  # of the time, at most, is spent on saving
WITHOUT_TOPIC = "all"
REJECTED_CHARACTERS = 500


class Scores(Protocol):
    """Something that labels texts."""

    def score(self, texts: list[str]) -> list[Score | str]:
        """A score for each text, or why there is none."""


@dataclass
class Committed:
    """What became certain in one commit; for those who report it."""

    counts: Counter[str] = field(default_factory=Counter)
    moods: list[Mood] = field(default_factory=list)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    watermark: float = 0.0


class Pipeline:
    """One monitor from its last commit on.

    Args:
      source: of lines.
      scorer: of texts.
      windows: restored to the last commit.
      journal: that commits.
      positions: of the source at the last commit, which the source keeps up to date.
      reports: are told of each commit after it.
      batch: texts of one call of the scorer.
      commit_s: at least so often the state is saved, where there is news.
    """

    def __init__(
        self,
        source: Files | Spool,
        scorer: Scores,
        windows: Windows,
        journal: Journal,
        positions: dict[str, Any],
        reports: tuple[Callable[[Committed], None], ...] = (),
        batch: int = 64,
        commit_s: float = 1.0,
    ) -> None:
        self.source, self.scorer, self.windows, self.journal = source, scorer, windows, journal
        self.positions, self.reports = positions, reports
        self.batch, self.commit_s = batch, commit_s
        self.totals = Counter(journal.state["counts"] if journal.state else {})
        self._pending = Committed()
        self._next_commit = time.monotonic() + commit_s

    def run(self, follow: bool, stop: threading.Event) -> None:
        """Handles lines until the input ends (never, if it is followed) or `stop` is set."""
        try:
            while not stop.is_set():
                has_ended = self._has_ended(follow)  # asked before reading: what is written in between counts
                lines = wait_for_lines(self.source, self.batch, POLL_S if follow else 0.0)
                if lines:
                    self.handle(lines)
                elif has_ended:
                    self._take(self.windows.finish())
                    break
                else:
                    self._commit_if_due()
                    stop.wait(POLL_S)
        except Stopped:  # the batch in hand is not counted, and is read again at the next start
            return
        self.commit()

    def handle(self, lines: list[Line]) -> None:
        """Counts a batch of lines."""
        events = [self._parse(line) for line in lines]
        known = {event.key for event in events if event is not None and self.windows.knows(event)}
        scores = iter(self.scorer.score([event.text for event in events if event and event.key not in known]))
        for line, event in zip(lines, events, strict=True):
            if event is None:
                continue
            if event.key in known:
                self._pending.counts["duplicate"] += 1
                continue
            self._count(line, event, next(scores))
        self._commit_if_due()

    def commit(self) -> None:
        """Makes everything handled so far certain, then tells the reports."""
        begin = time.monotonic()
        done, self._pending = self._pending, Committed()
        done.watermark = self.windows.watermark
        self.totals += done.counts
        state = {"positions": self.positions, "windows": self.windows.to_json(), "counts": dict(self.totals)}
        self.journal.commit(state, done.alerts, mood=[_mood_line(mood) for mood in done.moods], rejected=done.rejected)
        if isinstance(self.source, Spool):
            self.source.forget()
        for alert in done.alerts:
            LOG.warning(
                "ALERT %s: %d of %d texts negative (%.0f %%, expected %.0f %%), %s to %s",
                alert["topic"], alert["negative"], alert["texts"], 100 * alert["share"],
                100 * alert["expected_share"], alert["window_start"], alert["window_end"],
            )  # fmt: skip
        for report in self.reports:
            report(done)
        now = time.monotonic()
        self._next_commit = now + max(self.commit_s, (now - begin) / COMMIT_SHARE)

    def _has_ended(self, follow: bool) -> bool:
        return self.source.has_ended if isinstance(self.source, Spool) else not follow

    def _parse(self, line: Line) -> Event | None:
        if not line.content.strip():
            return None
        try:
            return read_event(line.content, line.columns, time.time())
        except BadLine as error:
            self._reject(line, str(error))
            return None

    def _count(self, line: Line, event: Event, score: Score | str) -> None:
        refusal = self.windows.refusal(event)
        if isinstance(score, str):
            self._reject(line, score)
        elif refusal == "ahead":
            self._reject(line, f"more than {self.windows.ahead_s:g} s after all others, alone with that")
        elif refusal is not None:
            self._pending.counts[refusal] += 1
        else:
            self._pending.counts["counted"] += 1
            topic = event.topic or score.topic or WITHOUT_TOPIC
            self._take(self.windows.add(event, topic, score.negative, score.is_negative))

    def _reject(self, line: Line, reason: str) -> None:
        self._pending.counts["rejected"] += 1
        content = self.windows.mask(line.content[: 4 * REJECTED_CHARACTERS].decode("utf-8", "replace"))[
            :REJECTED_CHARACTERS
        ]
        self._pending.rejected.append({"file": line.file, "line": line.number, "reason": reason, "content": content})

    def _take(self, moods: list[Mood]) -> None:
        self._pending.moods += moods
        self._pending.alerts += [mood.alert for mood in moods if mood.alert is not None]

    def _commit_if_due(self) -> None:
        has_news = bool(self._pending.counts)
        if has_news and (self._pending.alerts or time.monotonic() >= self._next_commit):
            self.commit()


def _mood_line(mood: Mood) -> dict[str, Any]:
    verdict = mood.verdict
    expected = None if verdict.expected_share != verdict.expected_share else round(verdict.expected_share, 4)
    return {
        "time": in_words(mood.end),
        "topic": mood.topic,
        "texts": verdict.texts,
        "negative": verdict.negative,
        "expected_share": expected,
    }
