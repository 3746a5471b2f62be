"""What does a person see while a model trains? A bar on a terminal, else one aligned line per look."""

import logging
import sys
import time
from collections.abc import Mapping

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
