"""What does a person see while a model trains? A bar on a terminal, else one aligned line per look."""

import logging
import sys
import time
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

logger = logging.getLogger(__name__)


class Progress:
    """Progress of a run, on stderr.

    Args:
      step: steps done when this process started.
      total_steps: steps of the whole run.
    """

    def __init__(self, step: int, total_steps: int) -> None:
        self.total_steps = total_steps
        self._first_step = step
        self._start = time.perf_counter()
        self._bar = tqdm(
            total=total_steps, initial=step, unit="step", dynamic_ncols=True, disable=not sys.stderr.isatty()
        )

    def advance(self) -> None:
        """One more step is done."""
        self._bar.update()

    def report(self, step: int, metrics: Mapping[str, float], part: str = "train") -> None:
        """Shows the metrics of a look."""
        if self._bar.disable:
            left = (time.perf_counter() - self._start) / max(step - self._first_step, 1) * (self.total_steps - step)
            logger.info("%s", format_look(step, self.total_steps, metrics, part, left))
        elif part == "train":
            self._bar.set_postfix_str(f"loss {metrics['loss']:.4f}, {metrics.get('tokens_per_s', 0):,.0f} tokens/s")
        else:
            tqdm.write(format_look(step, self.total_steps, metrics, part, None), file=sys.stderr)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        self._bar.close()


def format_look(
    step: int, total_steps: int, metrics: Mapping[str, float], part: str, seconds_left: float | None
) -> str:
    """One line whose columns stand below each other from look to look."""
    width = len(str(total_steps))
    columns = [f"{part:8} {step:{width}d}/{total_steps}", f"loss {metrics['loss']:8.4f}"]
    columns += [
        f"{name.removesuffix('_accuracy')} {value:6.1%}"
        for name, value in metrics.items()
        if name.endswith("_accuracy")
    ]
    columns += [f"perplexity {value:9.2f}" for name, value in metrics.items() if name.endswith("_perplexity")]
    if "learning_rate" in metrics:
        columns += [f"rate {metrics['learning_rate']:.2e}", f"norm {metrics['gradient_norm']:7.3f}"]
    if metrics.get("skipped_steps"):
        columns.append(f"skipped {metrics['skipped_steps']:.0f}")
    if "tokens_per_s" in metrics:
        columns.append(f"{metrics['tokens_per_s']:9,.0f} tokens/s")
    if seconds_left is not None and part == "train":
        columns.append(f"left {tqdm.format_interval(seconds_left)}")
    return "  ".join(columns)


def report_ledger(summary: Mapping[str, Any]) -> None:
    """Shows where the time of the run went."""
    logger.info("%s", format_ledger(summary))


def format_ledger(summary: Mapping[str, Any]) -> str:
    """A table of `Ledger.summary`: one line for each entry, then what was reached."""
    count = summary["processes"]
    lines = ["where the time went" + (f", {count} processes together" if count > 1 else "")]
    rows = [(entry, spent, summary["shares"][entry]) for entry, spent in summary["seconds"].items()]
    for entry, spent, share in [*rows, ("all", summary["wall_clock_s"], 1.0)]:
        lines.append(f"  {entry.replace('_', ' '):14} {spent:10,.1f} s {share:7.1%}")
    whole, training = summary["whole_run"], summary["while_training"]
    if "tokens_per_s" in whole and "tokens_per_s" in training:
        lines.append(
            f"  {summary['work']['tokens']:,.0f} tokens: {whole['tokens_per_s']:,.0f} tokens/s, "
            f"{training['tokens_per_s']:,.0f} while training"
        )
    if "matrix_product_share" in whole and "matrix_product_share" in training:
        lines.append(
            f"  {whole['useful_flops_per_s'] / 1e9:,.1f} useful GFLOP/s, "
            f"{training['useful_flops_per_s'] / 1e9:,.1f} while training: {whole['matrix_product_share']:.1%} and "
            f"{training['matrix_product_share']:.1%} of a matrix product's "
            f"{summary['matrix_product_flops_per_s'] / 1e9:,.0f} GFLOP/s"
        )
    return "\n".join(lines)
