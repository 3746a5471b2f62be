"""Does the monitor find planted surges before they end, and how often does it cry wolf? 14 days of real texts.

    python -m benchmarks.alert_replay --data DIR/financial_phrasebank/phrasebank.tsv --fold 0 \
        --workdir runs/folds/from_MiniLM/agree50-seed1-fold0
    python -m benchmarks.alert_replay --data data/sentiment/test.tsv --server 127.0.0.1:8500 --model sentiment

benchmarks/alert_stream.py makes the stream. Each distinct text is labelled once, by a workdir's model, by a server, or
by a simulated classifier that is wrong as often as it is told (--simulate 0.85). A surge counts as found if an alert of
its topic is raised between its start and its end by the clock of arrival; an alert whose window touches no surge of its
topic is false. The fixed threshold has the window length and the threshold that are best on the tuning seeds, by surges
found less false alerts.
"""

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from apps.flags import run_program
from benchmarks.alert_stream import Surge, make_stream
from kerasllm.config import load_run
from kerasllm.errors import ConfigError

if TYPE_CHECKING:
    from apps.financial_sentiment.monitoring.detector import DetectorSettings

FLAGS = flags.FLAGS
NAMES = ("positive", "neutral", "negative")
LATENESS_S = 60.0
WINDOWS_OF_THRESHOLD = (20, 30, 40, 50, 60, 75)  # minutes that are tried
# S slots of the stream


def define_flags() -> None:
    """Says what is replayed, who labels it, and which chance it is drawn by."""
    flags.DEFINE_string(
        "data", None, "Labelled .tsv of texts to draw from: text or sentence, and label.", required=True
    )
    flags.DEFINE_integer("fold", None, "Only the test rows of this fold of benchmarks.sentiment_folds.")
    flags.DEFINE_string("workdir", None, "Label with the model of this workdir.")
    flags.DEFINE_string("server", None, "HOST:PORT; label with the model that is served there.")
    flags.DEFINE_string("model", "sentiment", "Name of the model on the server.")
    flags.DEFINE_float("simulate", None, "Label with a simulated classifier of this accuracy.")
    flags.DEFINE_list("tuning_seeds", ["1", "2", "3", "4", "5"], "Seeds that the fixed threshold is chosen on.")
    flags.DEFINE_integer("seed", 2026, "Seed of the final figure.")
    flags.DEFINE_bool("tune_only", False, "Leave the final seed alone.")
    flags.DEFINE_multi_string("detector", [], "Setting of the detector, NAME=VALUE.")
    flags.DEFINE_string("output", None, "JSON file for the figures.")


def main() -> None:
    """Replays the seeds and prints the table."""
    from apps.financial_sentiment.monitoring.detector import detector_settings

    settings = detector_settings(FLAGS.detector)
    pool = _pool()
    probabilities = _probabilities(pool)
    describe(pool, probabilities)
    tuning = [replay(pool, probabilities, int(seed), settings) for seed in FLAGS.tuning_seeds]
    fixed = best_threshold(tuning, settings)
    name = f"{fixed[1]:.2f} in {fixed[0]} minutes"
    table = {
        "detector, tuning seeds": mean([judge_replay(one, one.alerts) for one in tuning]),
        f"{name}, tuning seeds": mean([judge_replay(one, fixed_threshold(one, *fixed, settings)) for one in tuning]),
    }
    if not FLAGS.tune_only:
        final = replay(pool, probabilities, FLAGS.seed, settings)
        tuning.append(final)
        table[f"detector, seed {FLAGS.seed}"] = judge_replay(final, final.alerts)
        table[f"{name}, seed {FLAGS.seed}"] = judge_replay(final, fixed_threshold(final, *fixed, settings))
    print(f"{'':<40}{'found':>8}{'late':>8}{'missed':>8}{'false':>8}{'minutes to the alert':>24}")
    for name, row in table.items():
        numbers = f"{row['found']:>8.3g}{row['late']:>8.3g}{row['missed']:>8.3g}{row['false']:>8.3g}"
        print(f"{name:<40}{numbers}{row['minutes']:>24.1f}")
    events, seconds = (sum(getattr(one, name) for one in tuning) for name in ("events", "seconds"))
    print(f"{events / seconds:,.0f} events/s through the windows and the detector")
    if FLAGS.output:
        content = {"detector": settings.model_dump(), "table": table}
        Path(FLAGS.output).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


@dataclasses.dataclass(frozen=True)
class Pool:
    """Real texts to draw from, with the names of their labels."""

    texts: list[str]
    labels: list[str]


@dataclasses.dataclass(frozen=True)
class Alert:
    """A topic's alert: when it was raised, by the clock of arrival, and its window."""

    topic: str
    raised: float
    start: float
    end: float


@dataclasses.dataclass(frozen=True)
class Replay:
    """What came of one seed.

    Attributes:
      counts: topic -> [S, 2] texts and negative ones of each slot, of what was not late and no copy.
      closed: [S] when each slot was closed, by the clock of arrival.
      start: of the first slot.
    """

    surges: list[Surge]
    alerts: list[Alert]
    counts: dict[str, np.ndarray]
    closed: np.ndarray
    start: float
    events: int
    seconds: float


def describe(pool: Pool, probabilities: np.ndarray) -> None:
    """Prints how good the model is at telling negative texts from others."""
    is_negative = np.array([label == "negative" for label in pool.labels])
    found = probabilities.argmax(axis=1) == 0
    print(
        f"{len(found):,} texts, {is_negative.sum():,} negative; the model finds {found[is_negative].mean():.3f} of"
        f" these, and calls {found[~is_negative].mean():.3f} of the others negative"
    )


def replay(pool: Pool, probabilities: np.ndarray, seed: int, settings: "DetectorSettings") -> Replay:
    """Plays a seed's stream through the monitor's windows.

    Args:
      pool: of texts.
      probabilities: [N, C] of their labels; negative is the first column.
      seed: of the stream.
      settings: of the detector.
    """
    from apps.financial_sentiment.monitoring.events import Event
    from apps.financial_sentiment.monitoring.windows import Windows

    rows = {name: [row for row, label in enumerate(pool.labels) if label == name] for name in NAMES}
    stream, surges = make_stream(rows, seed)
    windows = Windows(settings, LATENESS_S, 3600.0)
    negative, is_negative = probabilities[:, 0].tolist(), (probabilities.argmax(axis=1) == 0).tolist()
    step, first = settings.step_s, min(arrival.time for arrival in stream) // settings.step_s
    num_slots = int(max(arrival.time for arrival in stream) // step - first) + 1
    counts = {arrival.topic: np.zeros([num_slots, 2], int) for arrival in stream}
    closed, num_closed, alerts = np.full(num_slots, np.inf), 0, []
    begin = time.perf_counter()
    for arrival in stream:
        event = Event(arrival.time, pool.texts[arrival.row], arrival.topic, arrival.id)
        if windows.refusal(event) is not None:
            continue
        found = windows.add(event, arrival.topic, negative[arrival.row], is_negative[arrival.row])
        moods = [mood for mood in found if mood.alert is not None]
        alerts += [Alert(mood.topic, arrival.arrives, mood.end - mood.verdict.slots * step, mood.end) for mood in moods]
        counts[arrival.topic][int(arrival.time // step - first)] += 1, is_negative[arrival.row]
        past = max(num_closed, int(windows.watermark // step - first))
        closed[num_closed:past], num_closed = arrival.arrives, past
    seconds = time.perf_counter() - begin
    return Replay(surges, alerts, counts, closed, first * step, len(stream), seconds)


def fixed_threshold(replayed: Replay, minutes: int, threshold: float, settings: "DetectorSettings") -> list[Alert]:
    """The alerts of a threshold on the share of a window, with the detector's support and cool-down."""
    alerts: list[Alert] = []
    step, window = settings.step_s, max(1, round(60 * minutes / settings.step_s))
    for topic, counts in replayed.counts.items():
        sums = np.cumsum(counts, axis=0)
        sums[window:] -= sums[:-window].copy()
        texts, negative = sums.T
        loud = np.flatnonzero((texts >= settings.min_support) & (negative >= threshold * texts))
        place = 0
        while place < len(loud) and np.isfinite(replayed.closed[loud[place]]):
            slot = loud[place]
            end = replayed.start + float(slot + 1) * step
            alerts.append(Alert(topic, float(replayed.closed[slot]), end - window * step, end))
            place = int(np.searchsorted(loud, slot + max(1.0, settings.cooldown_s / step)))
    return alerts


def judge_replay(replayed: Replay, alerts: Sequence[Alert]) -> dict[str, float]:
    """Surges found in time, found late and missed; false alerts; mean minutes from a surge's start to its alert."""
    waits, late = [], 0
    for surge in replayed.surges:
        own = [alert for alert in alerts if alert.topic == surge.topic]
        in_time = [alert.raised - surge.start for alert in own if surge.start <= alert.raised <= surge.end]
        if in_time:
            waits.append(min(in_time) / 60)
        elif any(touches(alert, surge) for alert in own):
            late += 1
    false = sum(not any(touches(alert, surge) for surge in replayed.surges) for alert in alerts)
    found = len(waits)
    return {
        "found": found,
        "late": late,
        "missed": len(replayed.surges) - found - late,
        "false": false,
        "minutes": sum(waits) / found if found else float("nan"),
    }


def touches(alert: Alert, surge: Surge) -> bool:
    """Whether the alert's window and the surge share any time."""
    return alert.topic == surge.topic and alert.start < surge.end and alert.end > surge.start


def best_threshold(replays: Sequence[Replay], settings: "DetectorSettings") -> tuple[int, float]:
    """Window (minutes) and threshold with the most surges found less false alerts."""

    def gain(fixed: tuple[int, float]) -> float:
        row = mean([judge_replay(one, fixed_threshold(one, *fixed, settings)) for one in replays])
        return row["found"] - row["false"]

    return max(((minutes, percent / 100) for minutes in WINDOWS_OF_THRESHOLD for percent in range(20, 61)), key=gain)


def mean(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Means of the seeds."""
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def _pool() -> Pool:
    """The texts to draw from.

    Raises:
      ConfigError: not one of --workdir, --server and --simulate is given.
    """
    from benchmarks.sentiment_folds import split
    from kerasllm.data import read_labelled

    if sum(flag is not None for flag in (FLAGS.workdir, FLAGS.server, FLAGS.simulate)) != 1:
        raise ConfigError("give one of --workdir, --server and --simulate: who labels the texts?")
    with open(FLAGS.data, encoding="utf-8") as file:
        column = "sentence" if "sentence" in file.readline().rstrip("\n").split("\t") else "text"
    run = load_run(None, [f"data.labels=[{', '.join(NAMES)}]", f"data.text_column={column}"])
    rows = read_labelled(FLAGS.data, run.data)
    if FLAGS.fold is not None:
        rows = split(rows, FLAGS.fold)[2]
    (labels,) = rows.labels.values()
    return Pool(rows.texts, [NAMES[label] for label in labels])


def _probabilities(pool: Pool) -> np.ndarray:
    """[N, C] of each text: negative, then all else that the model may call it; the largest is its label."""
    if FLAGS.simulate is not None:
        random = np.random.default_rng(0)
        wrong = random.integers(1, len(NAMES), len(pool.labels)) * (random.random(len(pool.labels)) >= FLAGS.simulate)
        found = (np.array([NAMES.index(label) for label in pool.labels]) + wrong) % len(NAMES)
        return np.eye(len(NAMES))[found][:, ::-1]
    if FLAGS.server is not None:
        return _asked(pool.texts)
    from kerasllm.trained import classify, load

    trained = load(FLAGS.workdir)
    heads = trained.run.data.label_heads()
    head = "sentiment" if "sentiment" in heads else next(iter(heads))
    column = heads[head].labels.index("negative")
    probabilities = classify(trained, pool.texts)[head]
    return np.concatenate([probabilities[:, [column]], np.delete(probabilities, column, axis=1)], axis=1)


def _asked(texts: list[str]) -> np.ndarray:
    import threading

    from apps.financial_sentiment.monitoring.scoring import Score, Scorer
    from serving.clients import PredictClient

    with PredictClient(FLAGS.server, FLAGS.model, 60.0) as client:
        scorer = Scorer(client, "negative", threading.Event())
        scores = [score for start in range(0, len(texts), 64) for score in scorer.score(texts[start : start + 64])]
    rows = np.zeros([len(texts), 2])
    for row, score in zip(rows, scores, strict=True):
        if isinstance(score, Score):  # a text that the server refuses is not negative
            row[:] = score.negative, 0.0 if score.is_negative else 1.0
    return rows


if __name__ == "__main__":
    define_flags()
    run_program(main)
