"""A checkpoint is whole or not there, says what does not fit, and gives back all or the backbone alone."""

import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from kerasllm import training
from kerasllm.errors import CheckpointError
from kerasllm.training.checkpoints import CheckpointFolder


def _saved(folder: Path, tiny: Any, losses: list[float | None], keep_newest: int = 2) -> CheckpointFolder:
    """Checkpoints at steps 1, 2, ... whose head bias is the step, with these held-out losses."""
    checkpoints = CheckpointFolder(folder / "checkpoints", keep_newest)
    model = tiny.build_tagger()
    optimizer = training.make_optimizer(tiny.make_run().optimizer, 10, model)
    for step, loss in enumerate(losses, start=1):
        model.head.bias.assign([float(step)] * 3)
        checkpoints.save(step, model, optimizer, tiny.make_run(), {} if loss is None else {"loss": loss})
    return checkpoints


def test_the_newest_two_and_the_best_are_kept(tmp_path: Path, tiny: Any) -> None:
    checkpoints = _saved(tmp_path, tiny, [3.0, 1.0, math.nan, None, 2.5])
    assert [one.step for one in checkpoints.all()] == [2, 4, 5]
    model = tiny.build_tagger()
    assert training.restore_weights(model, tmp_path) == 2
    np.testing.assert_array_equal(model.head.bias.numpy(), [2.0] * 3)
    assert training.restore_weights(model, tmp_path, which="newest") == 5
    np.testing.assert_array_equal(model.head.bias.numpy(), [5.0] * 3)
    assert training.restore_weights(model, tmp_path / "checkpoints" / "step-00000004") == 4


def test_without_evaluation_the_best_is_the_newest(tmp_path: Path, tiny: Any) -> None:
    _saved(tmp_path, tiny, [None, None])
    assert training.find_checkpoint(tmp_path, "best").step == 2


def test_a_half_written_checkpoint_is_ignored_and_cleaned_away(tmp_path: Path, tiny: Any) -> None:
    _saved(tmp_path, tiny, [1.0])
    half = tmp_path / "checkpoints" / ".unfinished-step-00000007"
    half.mkdir()
    (half / "state.index").write_bytes(b"half")
    assert training.find_checkpoint(tmp_path, "newest").step == 1
    _saved(tmp_path, tiny, [1.0])
    assert not half.exists()


def test_a_checkpoint_of_another_shape_is_named_with_both_shapes(tmp_path: Path, tiny: Any) -> None:
    _saved(tmp_path, tiny, [1.0])
    with pytest.raises(CheckpointError, match=r"step-00000001 was saved with shape \(11, 8\) .*says \(11, 16\)"):
        training.restore_weights(tiny.build_tagger(width=16), tmp_path)


def test_a_checkpoint_of_another_model_names_the_first_variable_that_differs(tmp_path: Path, tiny: Any) -> None:
    _saved(tmp_path, tiny, [1.0])
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(CheckpointError, match="variable 'tagger/table/embeddings' was saved where .*kernel"):
        training.restore_weights(other, tmp_path)


@pytest.mark.parametrize("damage", ["cut", "flipped", "no index", "no description"])
def test_a_damaged_checkpoint_is_named_with_the_older_one_to_go_back_to(tmp_path: Path, tiny: Any, damage: str) -> None:
    _saved(tmp_path, tiny, [2.0, 1.0])
    folder = tmp_path / "checkpoints" / "step-00000002"
    data = next(folder.glob("state.data-*"))
    content = data.read_bytes()
    if damage == "cut":
        data.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        data.write_bytes(bytes([content[0] ^ 255]) + content[1:])
    else:
        (folder / ("state.index" if damage == "no index" else "variables.json")).unlink()
    with pytest.raises(CheckpointError, match=r"step-00000002 is damaged .*Remove it to go on from step-00000001"):
        training.restore_weights(tiny.build_tagger(), tmp_path)


def test_a_workdir_without_checkpoints_is_named(tmp_path: Path, tiny: Any) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        training.restore_weights(tiny.build_tagger(), tmp_path)


def test_a_backbone_is_taken_out_of_one_model_and_put_into_another(tmp_path: Path, tiny: Any) -> None:
    class Pretrainer(keras.Model):
        def __init__(self, backbone: keras.Model) -> None:
            super().__init__(name="pretrainer")
            self.backbone = backbone
            self.head = keras.layers.Dense(7, name="head")

        def call(self, inputs: Any) -> Any:
            return self.head(self.backbone(inputs)["logits"])

    inputs = {"token_ids": np.zeros((1, tiny.LENGTH), np.int32)}
    source = Pretrainer(tiny.TinyTagger())
    source(inputs)
    optimizer = training.make_optimizer(tiny.make_run().optimizer, 10, source)
    CheckpointFolder(tmp_path / "checkpoints").save(3, source, optimizer, tiny.make_run())

    alone = tiny.build_tagger()
    keras.utils.set_random_seed(99)
    inside = Pretrainer(tiny.TinyTagger())
    inside(inputs)
    for backbone in (alone, inside.backbone):
        assert training.load_backbone(backbone, tmp_path) == 3
        for ours, theirs in zip(backbone.weights, source.backbone.weights, strict=True):
            np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    assert not np.array_equal(inside.head.kernel.numpy(), source.head.kernel.numpy())
    with pytest.raises(CheckpointError, match=r"shape \(11, 8\) .*says \(11, 16\)"):
        training.load_backbone(tiny.build_tagger(width=16), tmp_path)
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="elsewhere")])
    with pytest.raises(CheckpointError, match="lacks 2 of the 2 variables of the backbone, first .*elsewhere/kernel"):
        training.load_backbone(other, tmp_path)
