"""What fits into the time? From short probes to a plan, and from a finished run back to what the plan had said."""

import bisect
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kerasllm.config import Run, Train
from kerasllm.errors import ConfigError

FORMAT_VERSION = 1
ALIKE = 0.05  # rates that differ by less are the same: the configured batch is kept, and memory decides
LEAST_ERROR = 0.05  # of a prediction, however steady the probe was: a machine does not stay the same for hours
PREDICTED = ("minutes", "tokens", "tokens_per_s", "peak_memory_gb")


@dataclass(frozen=True)
class Probe:
    """What a short run showed of one choice of batch and accumulation.

    Attributes:
      step_s: seconds of each step, waiting for its batch included; the first one, which makes the graph, is left out.
      tokens_per_step: real ones.
      start_s: what comes once: model, graphs, first batch.
      evaluation_s, checkpoint_s: of one.
      peak_memory_gb: of the process, largest resident set in 10^9 bytes.
    """

    global_batch: int
    accumulation: int
    step_s: tuple[float, ...]
    tokens_per_step: float
    start_s: float
    evaluation_s: float
    checkpoint_s: float
    peak_memory_gb: float

    @property
    def mean_step_s(self) -> float:
        """The mean, not the median: a whole run has the slow steps too."""
        return statistics.fmean(self.step_s)

    @property
    def tokens_per_s(self) -> float:
        """While it trains."""
        return self.tokens_per_step / self.mean_step_s

    @property
    def error_share(self) -> float:
        """Two standard errors of the mean step, as a share of it; LEAST_ERROR at least, 1 for a single step."""
        if len(self.step_s) < 2:
            return 1.0
        spread = statistics.stdev(self.step_s) / math.sqrt(len(self.step_s))
        return max(LEAST_ERROR, 2 * spread / self.mean_step_s)


def choices(train: Train, num_replicas: int) -> list[tuple[int, int]]:
    """(global_batch, accumulation) to probe: half, the same and twice the batch, in as many slices or twice as many.

    Those with few rows at once come first, since they need the least memory.
    """
    batch, slices = train.global_batch, train.accumulation
    pairs = [(batch, slices), (batch, 2 * slices), (2 * batch, slices), (2 * batch, 2 * slices)]
    if batch % 2 == 0:
        pairs.append((batch // 2, slices))
    fitting = [pair for pair in pairs if pair[0] % (num_replicas * pair[1]) == 0]
    return sorted(fitting, key=lambda pair: (pair[0] / pair[1], pair[0]))


def choose(probes: Sequence[Probe], global_batch: int, memory_gb: float) -> Probe:
    """The fastest probe that fits into memory; of those about as fast, one of the configured batch, then the smallest.

    Raises:
      ConfigError: none fits.
    """
    fitting = [probe for probe in probes if probe.peak_memory_gb <= memory_gb]
    if not fitting:
        least = min((probe.peak_memory_gb for probe in probes), default=math.nan)
        raise ConfigError(
            f"even the smallest choice needs {least:.2f} GB, there are {memory_gb:.2f}. Lower train.global_batch, "
            "raise train.accumulation, or give more --memory_gb."
        )
    fast_enough = (1 - ALIKE) * max(probe.tokens_per_s for probe in fitting)
    alike = [probe for probe in fitting if probe.tokens_per_s >= fast_enough]
    return min(alike, key=lambda probe: (probe.global_batch != global_batch, probe.peak_memory_gb, probe.accumulation))


def seconds_of(probe: Probe, train: Train, steps: int) -> float:
    """What a run of so many steps takes; each evaluation may bring a new best checkpoint, and the last step both."""
    looks = {*range(train.evaluate_every, steps, train.evaluate_every), steps}
    saves = looks | {*range(train.checkpoint_every, steps, train.checkpoint_every)}
    regular = steps * probe.mean_step_s + len(looks) * probe.evaluation_s + len(saves) * probe.checkpoint_s
    return probe.start_s + regular


def steps_that_fit(probe: Probe, train: Train, budget_s: float) -> int:
    """The most steps whose run does not take longer than the budget.

    Raises:
      ConfigError: not even one fits.
    """
    most = int(budget_s / probe.mean_step_s) + 1
    steps = bisect.bisect_right(range(1, most + 1), budget_s, key=lambda count: seconds_of(probe, train, count))
    if not steps:
        raise ConfigError(
            f"--budget_minutes={budget_s / 60:g} ends before a first step does: start, one step, evaluation and "
            f"checkpoint take {seconds_of(probe, train, 1):.0f} s. Give more minutes or a smaller model."
        )
    return steps


def make_plan(run: Run, probes: Sequence[Probe], budget_s: float, memory_gb: float) -> dict[str, Any]:
    """The plan, as it stands in plan.json.

    Raises:
      ConfigError: nothing fits into the memory or the time.
    """
    probe = choose(probes, run.train.global_batch, memory_gb)
    probe = replace(probe, start_s=max(one.start_s for one in probes))  # the first also started TensorFlow, as runs do
    steps = steps_that_fit(probe, run.train, budget_s)
    seconds, tokens = seconds_of(probe, run.train, steps), steps * probe.tokens_per_step
    settings: dict[str, Any] = {
        "train.global_batch": probe.global_batch,
        "train.accumulation": probe.accumulation,
        "train.steps": steps,
    }
    if run.train.epochs is not None:
        settings["train.epochs"] = None
    return {
        "format_version": FORMAT_VERSION,
        "budget_minutes": budget_s / 60,
        "settings": settings,
        "predicted": dict(zip(PREDICTED, (seconds / 60, tokens, tokens / seconds, probe.peak_memory_gb), strict=True)),
        "error_share": probe.error_share,
        "measured_steps": len(probe.step_s),
        "costs": {name: getattr(probe, name) for name in ("start_s", "evaluation_s", "checkpoint_s")},
        "probes": [asdict(one) for one in probes],
    }


def set_lines(plan: Mapping[str, Any]) -> list[str]:
    """The plan's settings as flags."""
    return [f"--set {key}={json.dumps(value)}" for key, value in plan["settings"].items()]


def read_plan(path: str | Path, run: Run) -> dict[str, Any]:
    """Reads plan.json, and checks that the run is the planned one.

    Raises:
      ConfigError: the file is no plan, or the run has other settings than it says.
    """
    try:
        plan: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
        settings, predicted = plan["settings"], plan["predicted"]
        if plan["format_version"] != FORMAT_VERSION or predicted.keys() != set(PREDICTED):
            raise ValueError(f"it is not of format version {FORMAT_VERSION}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"--plan {path} cannot be read ({error}). Make it with apps.pretrain.plan.") from None
    for key, value in settings.items():
        ours = getattr(run.train, key.removeprefix("train."))
        if ours != value:
            raise ConfigError(
                f"--plan {path} is for {key}={json.dumps(value)}, this run says {json.dumps(ours)}. "
                f"Give its settings: {' '.join(set_lines(plan))}"
            )
    return plan


def compare(plan: Mapping[str, Any], ledger: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Predicted and got, by name; `ledger` is the summary of the whole run, all its processes together."""
    found = (
        ledger["wall_clock_s"] / 60,
        ledger["work"]["tokens"],
        ledger["whole_run"].get("tokens_per_s", 0.0),
        ledger["peak_memory_bytes"] / 1e9,
    )
    return {
        name: {"predicted": plan["predicted"][name], "got": got} for name, got in zip(PREDICTED, found, strict=True)
    }


def format_comparison(compared: Mapping[str, Mapping[str, float]]) -> str:
    """A table of what `compare` returns."""
    lines = [f"{'the plan':16} {'predicted':>14} {'got':>14}"]
    for name, pair in compared.items():
        digits = 2 if name in ("minutes", "peak_memory_gb") else 0
        share = f"{pair['got'] / pair['predicted'] - 1:+7.1%}" if pair["predicted"] else ""
        label = name.replace("_gb", ", GB").replace("_per_s", "/s").replace("_", " ")
        lines.append(f"  {label:14} {pair['predicted']:14,.{digits}f} {pair['got']:14,.{digits}f} {share}")
    return "\n".join(lines)


def format_plan(plan: Mapping[str, Any]) -> str:
    """The probes, the choice, how sure it is, and what takes how long."""
    lines = [f"{'batch':>8} {'accumulation':>13} {'tokens/s':>10} {'s a step':>9} {'memory':>9}"]
    for tree in plan["probes"]:
        probe = Probe(**{**tree, "step_s": tuple(tree["step_s"])})
        is_chosen = all(plan["settings"][f"train.{name}"] == tree[name] for name in ("global_batch", "accumulation"))
        lines.append(
            f"{probe.global_batch:8} {probe.accumulation:13} {probe.tokens_per_s:10,.0f} {probe.mean_step_s:9.3f} "
            f"{probe.peak_memory_gb:6.2f} GB{'  <- chosen' if is_chosen else ''}"
        )
    predicted, error, costs = plan["predicted"], plan["error_share"], plan["costs"]
    return "\n".join(
        [
            *lines,
            f"{plan['budget_minutes']:g} minutes are enough for {plan['settings']['train.steps']:,} steps: "
            f"{predicted['minutes']:.1f} minutes, {predicted['tokens']:,.0f} tokens, "
            f"{predicted['tokens_per_s']:,.0f} tokens/s all in all, {predicted['peak_memory_gb']:.2f} GB.",
            f"How sure: {predicted['minutes'] * (1 - error):.1f} to {predicted['minutes'] * (1 + error):.1f} minutes, "
            f"two standard errors of {plan['measured_steps']} steps and {LEAST_ERROR:.0%} at least; other work on the "
            "machine, longer rows later on and starting the program are not in it.",
            f"Of it the start takes {costs['start_s']:.1f} s, each evaluation {costs['evaluation_s']:.1f} s, "
            f"each checkpoint {costs['checkpoint_s']:.1f} s.",
        ]
    )
