"""Which events does the replay of alerts read? 14 days of texts with a daily rhythm and planted surges, by seed.

The stream is a pure function of (texts by label, seed). It is kept apart from the program that scores it, since it was
fixed before any setting of the detector was chosen. What it holds:

- 4 topics, exactly 60 texts an hour each, at random seconds of the hour: 80,640 texts.
- The share of negative texts of a topic follows the hour of the day: mean x (1 + 0.3 sin), means 0.13 to 0.17, each
  topic with a phase of its own. What is not negative is neutral or positive as often as in the rows drawn from.
- 20 surges of one hour, in which the share is tripled. They begin at any second after the first day, which is all
  that a reader of the stream can know the rhythm from, and 6 hours or more apart in a topic.
- Arrival: texts come in 20 s after their time on average (exponential, at most 2 minutes), 0.5 % of them 2 to 30
  minutes late, and 0.5 % arrive twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

DAYS = 14
HOUR = 3600
TEXTS_PER_HOUR = 60
TOPICS = {"banking": (0.13, 9), "energy": (0.15, 14), "retail": (0.15, 19), "technology": (0.17, 2)}  # mean, peak hour
RHYTHM = 0.3  # of the mean
NUM_SURGES = 20
SURGE_FACTOR = 3.0
SURGE_GAP = 6 * HOUR  # between starts in one topic
MEAN_DELAY, MOST_DELAY, LATE_SHARE, MOST_LATE, TWICE_SHARE = 20.0, 120.0, 0.005, 1800.0, 0.005
START = 1_767_225_600  # 2026-01-01 00:00 UTC


@dataclass(frozen=True)
class Surge:
    """One topic's share of negative texts is tripled from `start` to `end` (seconds since 1970)."""

    topic: str
    start: float
    end: float


@dataclass(frozen=True)
class Arrival:
    """A text as it comes in; `row` is its place in the pool that it was drawn from."""

    arrives: float
    time: float
    id: str
    topic: str
    row: int


def negative_share(topic: str, time: float) -> float:
    """Share without surges at a time (seconds since 1970)."""
    mean, peak = TOPICS[topic]
    return mean * (1 + RHYTHM * float(np.cos(2 * np.pi * ((time - START) / HOUR - peak) / 24)))


def make_surges(seed: int) -> list[Surge]:
    """The surges of a seed, in the order of their start."""
    random = np.random.default_rng([seed, 1])
    surges: list[Surge] = []
    while len(surges) < NUM_SURGES:
        topic = list(TOPICS)[random.integers(len(TOPICS))]
        start = START + random.uniform(24 * HOUR, DAYS * 24 * HOUR - HOUR)
        if all(other.topic != topic or abs(other.start - start) >= SURGE_GAP for other in surges):
            surges.append(Surge(topic, start, start + HOUR))
    return sorted(surges, key=lambda surge: surge.start)


def make_stream(rows_by_label: Mapping[str, Sequence[int]], seed: int) -> tuple[list[Arrival], list[Surge]]:
    """The stream in the order of arrival, and the surges planted in it.

    Args:
      rows_by_label: places in a pool of real texts that are "negative", and of any other labels.
      seed: all chance comes from it.
    """
    random = np.random.default_rng([seed, 2])
    surges = make_surges(seed)
    negative = np.array(rows_by_label["negative"])
    others = np.array([row for label, rows in rows_by_label.items() if label != "negative" for row in rows])
    stream: list[Arrival] = []
    for topic in TOPICS:
        own = [surge for surge in surges if surge.topic == topic]
        for hour in range(DAYS * 24):
            for time in np.sort(START + HOUR * (hour + random.random(TEXTS_PER_HOUR))).tolist():
                share = negative_share(topic, time) * (SURGE_FACTOR if _inside(own, time) else 1.0)
                row = int(random.choice(negative if random.random() < share else others))
                name = f"{topic}-{hour}-{len(stream)}"
                stream += [Arrival(time + delay, time, name, topic, row) for delay in _delays(random)]
    return sorted(stream, key=lambda arrival: arrival.arrives), surges


def _inside(surges: Sequence[Surge], time: float) -> bool:
    return any(surge.start <= time < surge.end for surge in surges)


def _delays(random: np.random.Generator) -> list[float]:
    delay = min(random.exponential(MEAN_DELAY), MOST_DELAY)
    if random.random() < LATE_SHARE:
        delay = random.uniform(MOST_DELAY, MOST_LATE)
    return [delay, delay + random.uniform(0, MOST_DELAY)] if random.random() < TWICE_SHARE else [delay]
