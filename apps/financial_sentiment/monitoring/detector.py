"""When is a share of negative texts a surge? A pure function of counts per slot of time; no server, no clock.

The number of negative texts in the window is compared with what the same time of earlier days, and the hours just
before, let one expect: a beta-binomial tail, so that little history makes a careful judge.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pydantic
from pydantic import Field

from kerasllm.config.schema import Section
from kerasllm.errors import ConfigError

# S slots of step_s seconds each, oldest first
DAY_S = 86_400
MAD_TO_DEVIATION = 1.4826  # of a normal distribution
NUM_DEVIATIONS = 3.0  # a day further from the median day than this is drawn in to here


class DetectorSettings(Section):
    """What counts as a surge, and what it is compared with."""

    step_s: int = Field(300, ge=1)  # width of a slot; the share is judged at the end of each
    window_s: int = Field(3300, ge=1)  # the texts that are judged together
    history_days: int = Field(14, ge=1)  # days that are remembered
    neighbourhood_s: int = Field(5400, ge=0)  # of an earlier day, before and after the same time of day
    recent_s: int = Field(10_800, ge=0)  # just before the window
    history_texts: float = Field(1000, gt=0)  # more texts than this make the expectation no surer: days differ
    p_value: float = Field(5e-4, gt=0, lt=1)  # chance of so many negative texts if nothing has happened
    min_ratio: float = Field(1.8, ge=1)  # of the share to the expected share
    min_support: int = Field(20, ge=1)  # texts in the window
    min_negative: int = Field(5, ge=1)  # negative texts in the window
    min_history: int = Field(120, ge=1)  # texts to compare with; before that there is no alert
    cooldown_s: int = Field(7200, ge=0)  # after an alert of a topic
    new_normal_s: int = Field(21_600, ge=1)  # a surge that lasts longer is history like any other

    @property
    def window_slots(self) -> int:
        """Slots of the window."""
        return max(1, round(self.window_s / self.step_s))

    @property
    def day_slots(self) -> int:
        """Slots of a day."""
        return max(1, round(DAY_S / self.step_s))

    @property
    def num_slots(self) -> int:
        """S: the slots that a judgement looks back on."""
        half = round(self.neighbourhood_s / self.step_s)
        return self.history_days * self.day_slots + self.window_slots + half


@dataclass(frozen=True)
class Verdict:
    """What a window holds, and how far that is from the expected.

    Attributes:
      texts: in the window.
      negative: of these.
      expected_share: of negative texts, by the history; NaN without enough of it.
      p_value: chance of `negative` or more if the expectation holds; 1 without enough history.
      is_surge: all conditions of the settings hold.
    """

    texts: int
    negative: int
    expected_share: float
    p_value: float
    is_surge: bool

    @property
    def share(self) -> float:
        """Of negative texts; 0 in an empty window."""
        return self.negative / self.texts if self.texts else 0.0


def detector_settings(given: Sequence[str]) -> DetectorSettings:
    """The detector's settings with `NAME=VALUE` put in.

    Raises:
      ConfigError: no such name, or a value out of range.
    """
    values: dict[str, str] = {}
    for setting in given:
        name, equals, value = setting.partition("=")
        if not equals or name not in DetectorSettings.model_fields:
            known = ", ".join(DetectorSettings.model_fields)
            raise ConfigError(f"--detector {setting}: expected NAME=VALUE with a NAME of {known}.")
        values[name] = value
    try:
        return DetectorSettings.model_validate(values)
    except pydantic.ValidationError as error:
        problem = error.errors()[0]
        raise ConfigError(f"--detector {problem['loc'][0]}={problem['input']}: {problem['msg']}.") from None


def judge(total: np.ndarray, negative: np.ndarray, excluded: np.ndarray, settings: DetectorSettings) -> Verdict:
    """Judges the window that ends with the last slot.

    Args:
      total: [S] texts of each slot, S = settings.num_slots.
      negative: [S] the negative ones among them.
      excluded: [S] bool; slots of earlier surges, which are no history.
      settings: of the detector.
    """
    window = settings.window_slots
    texts, bad = int(total[-window:].sum()), int(negative[-window:].sum())
    weight, expected_bad = _history(total, negative, excluded, settings)
    if weight < settings.min_history:
        return Verdict(texts, bad, math.nan, 1.0, False)
    scale = min(1.0, settings.history_texts / weight)
    alpha, beta = expected_bad * scale + 0.5, (weight - expected_bad) * scale + 0.5  # Jeffreys' prior
    expected = alpha / (alpha + beta)
    if texts == 0 or bad <= expected * texts:
        return Verdict(texts, bad, expected, 1.0, False)
    p_value = beta_binomial_tail(bad, texts, alpha, beta)
    is_surge = (
        texts >= settings.min_support
        and bad >= settings.min_negative
        and p_value <= settings.p_value
        and bad >= settings.min_ratio * expected * texts
    )
    return Verdict(texts, bad, expected, p_value, is_surge)


def beta_binomial_tail(count: int, texts: int, alpha: float, beta: float) -> float:
    """Chance of `count` or more out of `texts`, where the share itself is Beta(alpha, beta)."""
    log_term = (
        _log_choose(texts, count) + _log_beta(count + alpha, texts - count + beta) - _log_beta(alpha, beta)
    )  # of exactly `count`; each next term by its ratio to the one before
    term = total = math.exp(log_term)
    for found in range(count, texts):
        term *= (texts - found) / (found + 1) * (found + alpha) / (texts - found - 1 + beta)
        total += term
    return min(1.0, total)


def _history(
    total: np.ndarray, negative: np.ndarray, excluded: np.ndarray, settings: DetectorSettings
) -> tuple[float, float]:
    """Texts to compare with and the negative ones among them, outlying days drawn in towards the median day."""
    kept = ~excluded.astype(bool)
    counts = np.stack([total * kept, negative * kept])
    slots, window = counts.shape[1], settings.window_slots
    half = round(settings.neighbourhood_s / settings.step_s)
    recent = round(settings.recent_s / settings.step_s)
    parts = [counts[:, max(0, slots - window - recent) : slots - window].sum(axis=1)]
    for day in range(1, settings.history_days + 1):
        end = slots - day * settings.day_slots
        if end - window >= 0:  # never into the window itself
            last = min(end + half, slots - window)
            parts.append(counts[:, max(0, end - window - half) : last].sum(axis=1))
    texts, bad = np.array(parts, float).T
    texts, bad = texts[texts > 0], bad[texts > 0]
    if not len(texts):
        return 0.0, 0.0
    shares = bad / texts
    middle = float(np.median(shares))
    spread = MAD_TO_DEVIATION * float(np.median(np.abs(shares - middle)))
    chance = np.sqrt(max(middle * (1 - middle), 1e-4) / texts)
    allowed = NUM_DEVIATIONS * np.maximum(spread, chance)
    return float(texts.sum()), float((np.clip(shares, middle - allowed, middle + allowed) * texts).sum())


def _log_beta(alpha: float, beta: float) -> float:
    return math.lgamma(alpha) + math.lgamma(beta) - math.lgamma(alpha + beta)


def _log_choose(texts: int, count: int) -> float:
    return math.lgamma(texts + 1) - math.lgamma(count + 1) - math.lgamma(texts - count + 1)
