"""What does a classifier promise with an answer? Temperature, thresholds and conformal set, fitted and kept as JSON."""

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from kerasllm.config import Decisions
from kerasllm.decisions.calibration import TEMPERATURES, checked, fit_temperature, softmax
from kerasllm.decisions.conformal import conformal_sets, conformal_threshold
from kerasllm.decisions.scope import ScopeScore, scope_scores
from kerasllm.decisions.thresholds import NEVER, class_thresholds, has_own_threshold, threshold_for_precision
from kerasllm.errors import CheckpointError

FORMAT_VERSION = 1
GRAIN = 1e5  # thresholds are rounded to the generous side, so that float32 in a graph decides as float64 does
# N examples, C classes


@dataclasses.dataclass(frozen=True)
class ClassDecision:
    """How the logits of one head become probabilities, a set of labels, and an answer or none.

    Attributes:
      temperature: that logits are divided by.
      thresholds: for each class the top probability from which on it is answered; NEVER: not at all.
      conformal: largest 1 - probability of a label of the set.
      abstain_below: top probability below which no class is answered: the threshold of all answers together, or,
        where they do not reach the precision, the lowest of the classes'.
      scope_score: what tells texts apart that belong to no label: see scope_scores.
      scope_below: score below which a text is out of scope; None: that is not told.
      notes: what the held-out examples were too few or too bad for, in sentences.
    """

    temperature: float
    thresholds: tuple[float, ...]
    conformal: float
    abstain_below: float
    notes: tuple[str, ...] = ()
    scope_score: ScopeScore = "probability"
    scope_below: float | None = None

    @classmethod
    def fit(cls, logits: Any, labels: Any, settings: Decisions) -> Self:
        """Chooses all of it on held-out examples that the model was not trained on.

        Args:
          logits: [N, C].
          labels: [N] int, the true classes.
          settings: the coverage and the precision that are promised.
        """
        logits, labels = checked(logits, labels)
        temperature = fit_temperature(logits, labels)
        if not len(labels):
            return cls(temperature, (NEVER,) * logits.shape[1], 1.0, NEVER, ("No held-out examples: never answers.",))
        probabilities = softmax(logits / temperature)
        top, answers = probabilities.max(axis=1), probabilities.argmax(axis=1)
        thresholds = class_thresholds(probabilities, labels, settings.precision)
        of_all = threshold_for_precision(top, answers == labels, settings.precision)
        abstain_below = of_all if of_all < NEVER else float(thresholds.min())
        conformal = conformal_threshold(probabilities, labels, settings.coverage)
        thresholds = np.floor(thresholds * GRAIN) / GRAIN
        abstain_below, conformal = math.floor(abstain_below * GRAIN) / GRAIN, math.ceil(conformal * GRAIN) / GRAIN
        fitted = cls(temperature, tuple(thresholds.tolist()), conformal, abstain_below)
        has_own = has_own_threshold(answers, len(thresholds), settings.precision)
        notes = _notes(fitted, settings, has_own, float(np.mean(answers == labels)), len(labels))
        return dataclasses.replace(fitted, notes=notes)

    @classmethod
    def undecided(cls, num_classes: int) -> Self:
        """Before anything is fitted: probabilities as they are, every label in the set, always an answer."""
        return cls(1.0, (0.0,) * num_classes, 1.0, 0.0, ("Nothing was fitted.",))

    def probabilities(self, logits: Any) -> np.ndarray:
        """Calibrated probabilities [N, C] of logits [N, C]."""
        return softmax(np.asarray(logits, np.float64) / self.temperature)

    def sets(self, probabilities: Any) -> np.ndarray:
        """Which labels are in the conformal set: [N, C] bool of calibrated probabilities [N, C]."""
        return conformal_sets(probabilities, self.conformal)

    def abstains(self, probabilities: Any) -> np.ndarray:
        """Where no answer is given: [N] bool of calibrated probabilities [N, C]."""
        probabilities = np.asarray(probabilities)
        needed = np.maximum(self.thresholds, self.abstain_below)
        return np.asarray(probabilities.max(axis=-1) < needed[probabilities.argmax(axis=-1)])

    def out_of_scope(self, logits: Any) -> np.ndarray:
        """Which texts belong to no label: [N] bool of logits [N, C]."""
        scores = scope_scores(logits, self.scope_score, self.temperature)
        return np.asarray(scores < (-np.inf if self.scope_below is None else self.scope_below))

    def to_json(self) -> dict[str, Any]:
        """A tree that json.dumps takes and from_json reads."""
        return {**dataclasses.asdict(self), "thresholds": list(self.thresholds), "notes": list(self.notes)}

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Self:
        """Reads what to_json gave.

        Raises:
          CheckpointError: a field is missing, unknown or no number.
        """
        try:
            return cls(
                **{
                    **tree,
                    "temperature": float(tree["temperature"]),
                    "thresholds": tuple(float(value) for value in tree["thresholds"]),
                    "conformal": float(tree["conformal"]),
                    "abstain_below": float(tree["abstain_below"]),
                    "notes": tuple(tree.get("notes", ())),
                }
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"not the decisions of a head ({error!r}). Fit them again by training.") from None


def write_decisions(path: str | os.PathLike[str], heads: Mapping[str, ClassDecision]) -> None:
    """Writes the decisions of all heads, by name; the file is whole or not there."""
    path = Path(path)
    tree = {"format_version": FORMAT_VERSION, "heads": {name: head.to_json() for name, head in heads.items()}}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(tree, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_decisions(path: str | os.PathLike[str]) -> dict[str, ClassDecision]:
    """Reads what write_decisions wrote.

    Raises:
      CheckpointError: the file is missing, damaged or of another format version.
    """
    try:
        tree = json.loads(Path(path).read_text(encoding="utf-8"))
        version, heads = tree["format_version"], dict(tree["heads"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: no decisions can be read ({error!r}). Fit them again by training.") from None
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{path}: format_version {version!r}, this version reads {FORMAT_VERSION}. Train again.")
    try:
        return {name: ClassDecision.from_json(head) for name, head in heads.items()}
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _notes(
    fitted: ClassDecision, settings: Decisions, has_own: np.ndarray, accuracy: float, num: int
) -> tuple[str, ...]:
    notes = []
    if min(abs(np.log(fitted.temperature / bound)) for bound in TEMPERATURES) < 1e-3:
        bound = f"The temperature {fitted.temperature:.3g} is a bound of its fit"
        notes.append(f"{bound}: the {num} examples do not settle it.")
    if fitted.conformal >= 1.0:
        promise = f"to promise a coverage of {settings.coverage}"
        notes.append(f"{num} examples are too few {promise}: every label is in the set.")
    elif accuracy > settings.coverage:
        top = f"The most probable label alone is right in {accuracy:.3f}"
        notes.append(f"{top}: the sets cover at least that, more than the coverage of {settings.coverage}.")
    never = [str(label) for label, threshold in enumerate(fitted.thresholds) if threshold >= NEVER]
    if len(never) == len(has_own):
        notes.append(f"No threshold reaches a precision of {settings.precision} on {num} examples: never answers.")
        return tuple(notes)
    if never:
        notes.append(f"Never answered, for want of precision: classes {', '.join(never)}.")
    if not has_own.all():
        notes.append(f"{np.sum(~has_own)} of {len(has_own)} classes were too rare for a threshold of their own.")
    return tuple(notes)
