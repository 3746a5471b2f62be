"""Does the monitor find planted surges before they end, and how often does it cry wolf? 14 days of real texts.

    python -m benchmarks.alert_replay --data DIR/financial_phrasebank/phrasebank.tsv --fold 0 \
        --workdir runs/folds/from_MiniLM/seed1-fold0
    python -m benchmarks.alert_replay --data data/sentiment/test.tsv --server 127.0.0.1:8500 --model sentiment

benchmarks/alert_stream.py makes the stream. Each distinct text is labelled once, by a workdir's model, by a server, or
by a simulated classifier that is wrong as often as it is told (--simulate 0.85). A surge counts as found if an alert of
its topic is raised between its start and its end by the clock of arrival; an alert whose window touches no surge of its
topic is false. The fixed threshold looks at the same windows, and is the best one on the tuning seeds, by surges found
less false alerts.
"""

import dataclasses
import json
import time
from collections.abc import Iterable, Sequence
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
    from apps.financial_sentiment.monitoring.windows import Mood

FLAGS = flags.FLAGS
NAMES = ("positive", "neutral", "negative")
LATENESS_S = 120.0


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
    is_negative = _labelled_negative(pool)
    true = [label == "negative" for label in pool.labels]
    hits = sum(a and b for a, b in zip(is_negative, true, strict=True))
    print(
        f"{len(true):,} texts, {sum(true):,} negative; the model finds {hits / max(1, sum(true)):.3f} of these, "
        f"and calls {(sum(is_negative) - hits) / max(1, len(true) - sum(true)):.3f} of the others negative"
    )
    tuning = [replay(pool, is_negative, int(seed), settings) for seed in FLAGS.tuning_seeds]
    threshold, best = best_threshold(tuning, settings)
    table = {
        "detector, tuning seeds": mean([judge_replay(one, one.alerts) for one in tuning]),
        f"fixed threshold {threshold:.2f}, tuning seeds": best,
    }
    if not FLAGS.tune_only:
        final = replay(pool, is_negative, FLAGS.seed, settings)
        table[f"detector, seed {FLAGS.seed}"] = judge_replay(final, final.alerts)
        alerts = fixed_threshold(final.moods, threshold, settings)
        table[f"fixed threshold {threshold:.2f}, seed {FLAGS.seed}"] = judge_replay(final, alerts)
    print(f"{'':<40}{'found':>8}{'late':>8}{'missed':>8}{'false':>8}{'minutes to the alert':>24}")
    for name, row in table.items():
        numbers = f"{row['found']:>8.3g}{row['late']:>8.3g}{row['missed']:>8.3g}{row['false']:>8.3g}"
        print(f"{name:<40}{numbers}{row['minutes']:>24.1f}")
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
    """What came of one seed; each mood with the moment of arrival at which it was known."""

    surges: list[Surge]
    moods: "list[tuple[float, Mood]]"
    alerts: list[Alert]
    seconds: float


def replay(pool: Pool, is_negative: Sequence[bool], seed: int, settings: "DetectorSettings") -> Replay:
    """Plays a seed's stream through the monitor's windows."""
    from apps.financial_sentiment.monitoring.events import Event
    from apps.financial_sentiment.monitoring.windows import Windows

    rows = {name: [row for row, label in enumerate(pool.labels) if label == name] for name in NAMES}
    stream, surges = make_stream(rows, seed)
    windows = Windows(settings, LATENESS_S, 3600.0)
    moods: list[tuple[float, Mood]] = []
    begin = time.perf_counter()
    for arrival in stream:
        event = Event(arrival.time, pool.texts[arrival.row], arrival.topic, arrival.id)
        if windows.refusal(event) is None:
            negative = 1.0 if is_negative[arrival.row] else None
            moods += [(arrival.arrives, mood) for mood in windows.add(event, arrival.topic, negative)]
    seconds = time.perf_counter() - begin
    window_s = settings.window_slots * settings.step_s
    alerts = [
        Alert(mood.topic, raised, mood.end - window_s, mood.end) for raised, mood in moods if mood.alert is not None
    ]
    return Replay(surges, moods, alerts, seconds)


def fixed_threshold(
    moods: "Iterable[tuple[float, Mood]]", threshold: float, settings: "DetectorSettings"
) -> list[Alert]:
    """The alerts of a threshold on the share of the same windows, with the same support and cool-down."""
    alerts: list[Alert] = []
    quiet_until: dict[str, float] = {}
    window_s = settings.window_slots * settings.step_s
    for raised, mood in moods:
        is_loud = mood.verdict.texts >= settings.min_support and mood.verdict.share >= threshold
        if is_loud and mood.end >= quiet_until.get(mood.topic, 0.0):
            quiet_until[mood.topic] = mood.end + settings.cooldown_s
            alerts.append(Alert(mood.topic, raised, mood.end - window_s, mood.end))
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


def best_threshold(replays: Sequence[Replay], settings: "DetectorSettings") -> tuple[float, dict[str, float]]:
    """The threshold with the most surges found less false alerts, and what it reaches."""
    tried = {}
    for percent in range(15, 71):
        rows = [judge_replay(one, fixed_threshold(one.moods, percent / 100, settings)) for one in replays]
        tried[percent / 100] = mean(rows)
    best = max(tried, key=lambda threshold: tried[threshold]["found"] - tried[threshold]["false"])
    return best, tried[best]


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


def _labelled_negative(pool: Pool) -> list[bool]:
    """Whether the model calls each text negative."""
    if FLAGS.simulate is not None:
        random = np.random.default_rng(0)
        wrong = random.integers(1, len(NAMES), len(pool.labels)) * (random.random(len(pool.labels)) >= FLAGS.simulate)
        found = (np.array([NAMES.index(label) for label in pool.labels]) + wrong) % len(NAMES)
        return [NAMES[label] == "negative" for label in found]
    if FLAGS.server is not None:
        return _asked(pool.texts)
    from kerasllm.trained import classify, load

    trained = load(FLAGS.workdir)
    heads = trained.run.data.label_heads()
    head = "sentiment" if "sentiment" in heads else next(iter(heads))
    best = classify(trained, pool.texts)[head].argmax(axis=-1)
    return [heads[head].labels[index] == "negative" for index in best]


def _asked(texts: list[str]) -> list[bool]:
    import threading

    from apps.financial_sentiment.monitoring.scoring import Score, Scorer
    from serving.clients import PredictClient

    with PredictClient(FLAGS.server, FLAGS.model, 60.0) as client:
        scorer = Scorer(client, "negative", threading.Event())
        scores = [score for start in range(0, len(texts), 64) for score in scorer.score(texts[start : start + 64])]
    return [isinstance(score, Score) and score.negative is not None for score in scores]


if __name__ == "__main__":
    define_flags()
    run_program(main)
