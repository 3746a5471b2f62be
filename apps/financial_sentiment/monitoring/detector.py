"""When is a share of negative texts a surge? Pure functions of probabilities, counts and time; no server, no clock.

A likelihood ratio says how much better "the share is `ratio` times the expected one since some moment" explains the
last texts than "the share is as expected". What is expected is a smooth rhythm of the day, fitted to the history.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pydantic
from pydantic import Field

from kerasllm.config.schema import Section
from kerasllm.errors import ConfigError

# W slots of step_s seconds each in the longest window; H hours of history; both oldest first
DAY_S, HOUR_S = 86_400, 3600
NUM_DEVIATIONS = 3.0  # an hour further from the rhythm than this is drawn in to here, so that old surges move it little
LEAST_SHARE, MOST_SHARE = 0.02, 0.9  # an expectation is never surer than this


class DetectorSettings(Section):
    """What counts as a surge, and what it is compared with. The defaults are those of benchmarks/alert_replay.py."""

    step_s: int = Field(60, ge=1)  # width of a slot; at the end of each there is a judgement
    window_s: int = Field(3360, ge=1)  # a surge may have begun so long ago at most; older texts are history
    ratio: float = Field(3.0, gt=1)  # of the share in a surge to the expected share
    evidence: float = Field(6.3, gt=0)  # nats; exp(6.3) = 540 times likelier with the surge than without
    haste: float = Field(1.0, ge=0)  # nats more for each 10 minutes that a window is shorter than the longest
    caution: float = Field(1.0, ge=0)  # standard deviations of the expectation that are added to it
    history_days: int = Field(14, ge=1)  # days that are remembered
    rhythm_texts: float = Field(300, ge=0)  # so many texts' worth of belief that all hours of the day are alike
    min_support: int = Field(20, ge=1)  # texts since the surge began
    min_negative: int = Field(5, ge=1)  # of these labelled negative
    min_history: int = Field(120, ge=1)  # texts to compare with; before that there is no alert
    cooldown_s: int = Field(7200, ge=0)  # after an alert of a topic
    new_normal_s: int = Field(21_600, ge=1)  # a surge that lasts longer is how things are now: the history begins anew
    mood_s: int = Field(600, ge=1)  # time between two lines of mood of a topic

    @property
    def window_slots(self) -> int:
        """W."""
        return max(1, round(self.window_s / self.step_s))

    @property
    def history_hours(self) -> int:
        """H."""
        return self.history_days * DAY_S // HOUR_S


@dataclass(frozen=True)
class Verdict:
    """What the longest window holds, and how far the likeliest surge in it explains it better than the expectation.

    Attributes:
      texts: in the longest window.
      negative: of these, by their label.
      expected_share: mean probability of negative, by the history; NaN without enough of it.
      evidence: nats for a surge that began `slots` slots ago, the likeliest one; 0 without enough history.
      slots: from its beginning to now.
      is_surge: all conditions of the settings hold.
    """

    texts: int
    negative: int
    expected_share: float
    evidence: float
    slots: int
    is_surge: bool

    @property
    def share(self) -> float:
        """Of negative texts; 0 in an empty window."""
        return self.negative / self.texts if self.texts else 0.0


@dataclass(frozen=True)
class Rhythm:
    """A share that follows the day: mean + a cos + b sin, with the covariance of these per unit of share variance."""

    coefficients: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]

    def expected(self, time: float, caution: float) -> float:
        """The share at a time (seconds since 1970), `caution` standard deviations above the likeliest one."""
        wave = _waves(np.array(time))
        share = float(np.clip(wave @ self.coefficients, LEAST_SHARE, MOST_SHARE))
        deviation = math.sqrt(float(wave @ np.array(self.covariance) @ wave) * share * (1 - share))
        return min(share + caution * deviation, MOST_SHARE)


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


def fit_rhythm(hours: np.ndarray, texts: np.ndarray, mass: np.ndarray, settings: DetectorSettings) -> Rhythm | None:
    """The rhythm of the history; None if that is too short. Ridge regression in two rounds, outlying hours drawn in.

    Args:
      hours: [H] of the history, counted from 1970.
      texts: [H] in each hour.
      mass: [H] sum of their probabilities of being negative.
      settings: of the detector.
    """
    if texts.sum() < settings.min_history:
        return None
    waves = _waves((hours + 0.5) * HOUR_S)
    precision = waves.T @ (waves * texts[:, None]) + np.diag([1e-6, settings.rhythm_texts, settings.rhythm_texts])
    drawn_in = mass
    for _ in range(2):
        coefficients = np.linalg.solve(precision, waves.T @ drawn_in)
        share = np.clip(waves @ coefficients, LEAST_SHARE, MOST_SHARE)
        allowed = NUM_DEVIATIONS * np.sqrt(share * (1 - share) * texts)
        drawn_in = np.clip(mass, share * texts - allowed, share * texts + allowed)
    return Rhythm(tuple(coefficients.tolist()), tuple(map(tuple, np.linalg.inv(precision).tolist())))


def evidence_of(probabilities: Sequence[float], expected: float, ratio: float) -> float:
    """Nats for a share of `ratio` x `expected` against `expected`, of texts with such probabilities of being negative.

    A negative text is `ratio` times as frequent in a surge, any other one less frequent; which one it is, is known by
    its probability. With probabilities of 0 and 1 this is the likelihood ratio of two binomials.
    """
    raised = min(ratio * expected, MOST_SHARE)
    negative, other = raised / expected, (1 - raised) / (1 - expected)
    return sum(math.log(negative * one + other * (1 - one)) for one in probabilities)


def judge(
    total: np.ndarray, negative: np.ndarray, evidence: np.ndarray, expected: float, settings: DetectorSettings
) -> Verdict:
    """Judges the windows that end with the last slot.

    Args:
      total: [W] texts of each slot, W = settings.window_slots.
      negative: [W] those labelled negative among them.
      evidence: [W] nats of each slot's texts, by `evidence_of`.
      expected: share at the last slot; NaN without enough history.
      settings: of the detector.
    """
    texts, bad = int(total.sum()), int(negative.sum())
    if expected != expected:
        return Verdict(texts, bad, expected, 0.0, len(total), False)
    since = np.cumsum(evidence[::-1]) - settings.haste * settings.step_s / 600 * np.arange(len(total) - 1, -1, -1)
    slots = int(since.argmax()) + 1
    is_surge = (
        bool(since[slots - 1] >= settings.evidence)
        and int(total[-slots:].sum()) >= settings.min_support
        and int(negative[-slots:].sum()) >= settings.min_negative
    )
    return Verdict(texts, bad, expected, float(since[slots - 1]), slots, is_surge)


def _waves(time: np.ndarray) -> np.ndarray:
    """[..., 3]: one, and a cosine and a sine with the period of a day."""
    angle = 2 * np.pi * time / DAY_S
    return np.stack([np.ones_like(angle), np.cos(angle), np.sin(angle)], axis=-1)
