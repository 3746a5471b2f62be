"""Which folders are versions, and what is said of those that are missing?"""

import logging
from types import SimpleNamespace

import pytest

from kerasllm.errors import ServingError
from serving.server.folders import numbered_folders
from serving.server.versions import LoadPolicy, ModelConfig, Models, State


def served(models):
    return [version.number for version in models.versions("m") if version.state == State.AVAILABLE]


def models_of(base, *specific):
    """Models whose folders all load, at once."""
    config = ModelConfig("m", base, specific=specific)
    return Models([config], load=lambda _: SimpleNamespace(close=lambda: None), policy=LoadPolicy(rest_seconds=0))


def test_every_number_of_64_bits_is_a_version_and_digits_of_other_scripts_are_none(tmp_path):
    nanoseconds = 1_763_856_000_123_456_789  # 19 digits, as time.time_ns() gives them
    for name in ("7", str(nanoseconds), "9" * 19, "１２", "0" * 30 + "8", "-3", "4.0"):
        (tmp_path / name).mkdir()
    assert sorted(numbered_folders(tmp_path)) == [7, 8, nanoseconds]


def test_a_start_that_can_never_succeed_tells_which_version_of_the_policy_is_not_there(tmp_path):
    (tmp_path / "1").mkdir()
    told = "Versions 5, 7 of servable m, which its version policy names, were not found under base path"
    with pytest.raises(ServingError, match=f"{told} .* Export a model there, or turn polling on"):
        models_of(tmp_path, 7, 5).start(0)


def test_a_version_of_the_policy_that_is_not_there_is_told_and_the_others_are_served(tmp_path, caplog):
    (tmp_path / "1").mkdir()
    models = models_of(tmp_path, 1, 7)
    with caplog.at_level(logging.WARNING, logger="absl"):
        models.start(0)
    assert served(models) == [1]
    assert "Versions 7 of servable m" in caplog.text
    models.close()
