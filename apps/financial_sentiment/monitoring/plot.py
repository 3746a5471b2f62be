"""How does a person see a monitor's mood at one look? One strip per topic: share, expectation, and its alerts."""

from datetime import datetime
from pathlib import Path
from typing import Any

from apps.financial_sentiment.monitoring.journal import ALERTS, read_log
from kerasllm.errors import DataError

SHARE, EXPECTED, ALERT = "#2b6cb0", "#718096", "#c53030"
MOST_POINTS = 4000  # of a curve; more are not seen


def draw_mood(workdir: Path, picture: str | Path) -> None:
    """Draws the logs of a workdir as a picture.

    Args:
      workdir: of the monitor.
      picture: file to write; its ending says the form.

    Raises:
      DataError: nothing has been counted yet, or the picture cannot be written.
    """
    moods = read_log(workdir / "mood.jsonl")
    if not moods:
        raise DataError(f"{workdir}: no window has closed yet, so there is no mood to draw.")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    topics = sorted({mood["topic"] for mood in moods})
    figure = Figure(figsize=(12, 1.0 + 1.7 * len(topics)), layout="constrained")
    FigureCanvasAgg(figure)
    alerts = read_log(workdir / ALERTS)
    strips = figure.subplots(len(topics), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for strip, topic in zip(strips, topics, strict=True):
        own = [alert for alert in alerts if alert["topic"] == topic]
        _draw_topic(strip, topic, [mood for mood in moods if mood["topic"] == topic], own)
    figure.suptitle(f"Share of negative texts per topic, {len(alerts)} alert{'s' * (len(alerts) != 1)}", fontsize=12)
    _finish_axes(figure, strips[-1])
    try:
        figure.savefig(picture, dpi=120)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{picture}: cannot be written ({error}). Give --plot FILE.png in a folder that exists."
        ) from None


def _draw_topic(strip: Any, topic: str, moods: list[dict[str, Any]], alerts: list[dict[str, Any]]) -> None:
    moods = moods[:: 1 + len(moods) // MOST_POINTS]
    times = [datetime.fromisoformat(mood["time"]) for mood in moods]
    shares = [mood["negative"] / mood["texts"] for mood in moods]
    expected = [float("nan") if mood["expected_share"] is None else mood["expected_share"] for mood in moods]
    strip.fill_between(times, shares, color=SHARE, alpha=0.15, linewidth=0)
    strip.plot(times, shares, color=SHARE, linewidth=0.8, label="negative share of the window")
    strip.plot(times, expected, color=EXPECTED, linewidth=1.2, linestyle="--", label="expected by the history")
    ends = [datetime.fromisoformat(alert["window_end"]) for alert in alerts]
    for end in ends:
        strip.axvline(end, color=ALERT, linewidth=0.8, alpha=0.5)
    strip.plot(
        ends,
        [alert["share"] for alert in alerts],
        "v",
        color=ALERT,
        markersize=7,
        label="alert, at the share since its beginning",
        zorder=3,
    )
    strip.set_title(f"{topic}   ({len(alerts)})", loc="left", fontsize=10, fontweight="bold")
    strip.spines[["top", "right"]].set_visible(False)
    strip.grid(axis="y", alpha=0.25)


def _finish_axes(figure: Any, last: Any) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.ticker import PercentFormatter

    locator = AutoDateLocator()
    last.xaxis.set_major_locator(locator)
    last.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    last.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    last.set_ylim(bottom=0)
    last.margins(x=0.01)
    last.set_xlabel("time of the texts, UTC")
    figure.legend(*last.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
