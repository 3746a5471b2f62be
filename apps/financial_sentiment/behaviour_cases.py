"""What must hold between the answers for two texts? Cases from templates, and whether probabilities meet them."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

import numpy as np
import yaml

from kerasllm.errors import DataError

TEMPLATES = Path(__file__).with_name("behaviour.yaml")
EXPECTATIONS = ("falls", "opposite", "same", "not_weaker")


@dataclass(frozen=True)
class Case:
    """Two texts and what has to hold between the answers for them; see the head of behaviour.yaml."""

    test: str
    language: str
    first: str
    second: str
    expect: str
    label: str = "positive"
    by: float = 0.0


def read_cases(languages: Sequence[str], path: Path = TEMPLATES) -> list[Case]:
    """All cases of some languages.

    Raises:
      DataError: the file is not of the form that this program reads.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert tree["format_version"] == 1, f"format_version {tree['format_version']!r}, this program reads 1"
        return [
            case
            for (name, test), language in itertools.product(tree["tests"].items(), languages)
            for pair in test["pairs"].get(language, ())
            for case in _filled(name, test, language, pair, tree["words"][language], tree["cases"])
        ]
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AssertionError) as error:
        raise DataError(f"{path}: no behaviour tests ({error!r}). Compare it with the one of the project.") from None


def _filled(
    name: str, test: Mapping[str, Any], language: str, pair: Sequence[str], words: Mapping[str, list[str]], count: int
) -> Iterator[Case]:
    """A template pair with `count` fillings; the k-th takes the k-th word of each list, round and round."""
    first, second = pair
    assert test["expect"] in EXPECTATIONS, f"expect: {test['expect']!r} is none of {', '.join(EXPECTATIONS)}"
    slots = {slot for _, slot, _, _ in Formatter().parse(first + second) if slot}
    for index in range(count if slots else 1):
        filling = {slot: words[slot][index % len(words[slot])] for slot in slots}
        texts = first.format(**filling), second.format(**filling)
        yield Case(name, language, *texts, test["expect"], test.get("label", "positive"), test.get("by", 0.0))


def holds(case: Case, first: np.ndarray, second: np.ndarray, labels: Sequence[str]) -> bool:
    """Whether the probabilities [C] of the two texts are as expected."""
    places = {label: place for place, label in enumerate(labels)}
    lean = [float(one[places["positive"]] - one[places["negative"]]) for one in (first, second)]
    if case.expect == "opposite":
        return lean[0] > 0 > lean[1]
    if case.expect == "same":
        return bool(first.argmax() == second.argmax())
    if case.expect == "falls":
        return bool(second[places[case.label]] <= first[places[case.label]] - case.by)
    side = 1 if case.label == "positive" else -1
    return side * lean[1] >= side * lean[0] - case.by


def pass_rates(cases: Sequence[Case], passed: Sequence[bool]) -> dict[str, dict[str, float]]:
    """Share of the cases that hold: test -> language -> share, and under "all" over its languages."""
    rates: dict[str, dict[str, float]] = {}
    for test in dict.fromkeys(case.test for case in cases):
        of_test = [(case.language, ok) for case, ok in zip(cases, passed, strict=True) if case.test == test]
        languages = dict.fromkeys(language for language, _ in of_test)
        rates[test] = {
            language: float(np.mean([ok for spoken, ok in of_test if spoken == language])) for language in languages
        }
        rates[test]["all"] = float(np.mean([ok for _, ok in of_test]))
    return rates
