"""Which settings are refused because they do not fit each other?"""

import subprocess
import sys

import pytest

from kerasllm.config import Run, make_run
from kerasllm.errors import ConfigError

MIXED = {"labels": ["a", "b"], "share": 0.5}


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"backbone": {"hidden_dim": 100, "num_heads": 3}}, "hidden_dim=100 is not a multiple of num_heads=3"),
        (
            {"backbone": {"hidden_dim": 96, "num_heads": 6, "num_key_value_heads": 4}},
            "num_heads=6 is not a multiple of num_key_value_heads=4",
        ),
        ({"train": {"steps": 10, "epochs": 1}}, "exactly one of steps and epochs must be given"),
        ({"train": {"global_batch": 8}}, "exactly one of steps and epochs must be given"),
        ({"train": {"steps": 1, "global_batch": 8, "accumulation": 3}}, "not a multiple of accumulation=3"),
        ({"train": {"steps": 1, "sequence_length": 513}}, "train.sequence_length=513 exceeds backbone.max_length=512"),
        ({"export": {"sequence_length": 1024}}, "export.sequence_length=1024 exceeds backbone.max_length=512"),
        ({"mix": {"x": MIXED}, "objective": {"task": "text_classification"}}, "mix needs objective.task=bert_pretrain"),
        ({"mix": {"x": MIXED, "y": MIXED}}, "leave no step for the corpus: their sum must be below 1"),
        ({"mix": {"masked_lm": MIXED}}, "mix.masked_lm: the corpus has a head of that name; take another"),
        ({"mix": {"x": {**MIXED, "labels": ["a"]}}}, "labels"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(tree, expected):
    with pytest.raises(ConfigError, match=expected):
        make_run(tree)


@pytest.mark.parametrize(
    "tree",
    [
        {"objective": {"mask_share": 1.0}},
        {"objective": {"mask_share": 0.0}},
        {"backbone": {"dropout": 1.0}},
        {"data": {"held_out_share": 1.0}},
        {"train": {"steps": 0}},
        {"tokenizer": {"vocab_size": 100}},
        {"train": {"steps": 1, "strategy": "many_machines"}},
        {"format_version": 2},
    ],
)
def test_values_outside_their_range_are_refused(tree):
    with pytest.raises(ConfigError):
        make_run(tree)


def test_the_defaults_are_a_valid_run():
    assert make_run({}) == Run()


def test_the_configuration_needs_no_tensorflow():
    code = "import sys, kerasllm.config, kerasllm.errors, apps.flags; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
