"""Does each model of an application get the common settings and its own on top?"""

import pytest

from kerasllm.config import make_run, part_of
from kerasllm.errors import ConfigError

APPLICATION = make_run(
    {
        "seed": 7,
        "train": {"epochs": 3, "global_batch": 16},
        "parts": {
            "intent": {"objective": {"task": "text_classification"}, "train": {"steps": 5}},
            "typo": {"trian": {}},
        },
    }
)


def test_a_part_has_the_common_sections_and_its_own_on_top():
    run = part_of(APPLICATION, "intent")
    assert (run.seed, run.objective.task, run.train.global_batch) == (7, "text_classification", 16)
    assert (run.train.steps, run.train.epochs) == (5, None)
    assert run.parts == {}


def test_a_part_that_is_not_named_is_the_common_run():
    assert part_of(APPLICATION, "other").train.epochs == 3


def test_a_wrong_section_of_a_part_is_named():
    with pytest.raises(ConfigError, match="parts.typo: the top level has no field 'trian'. Did you mean 'train'"):
        part_of(APPLICATION, "typo")
