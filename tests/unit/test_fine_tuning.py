"""Does a fine-tuning start where it says, and does nothing of it stay behind?"""

import gc
from pathlib import Path

import keras
import pytest
import tensorflow as tf

from kerasllm import data, fine_tuning, text
from kerasllm.config import make_run
from kerasllm.errors import ConfigError


def test_a_start_from_random_weights_needs_a_vocabulary():
    with pytest.raises(ConfigError, match="give --init_from"):
        fine_tuning.starting_point(make_run({}), None, None)


def test_a_folder_of_neither_kind_is_no_start(tmp_path):
    with pytest.raises(ConfigError, match="neither a workdir"):
        fine_tuning.starting_point(make_run({}), str(tmp_path), None)


def living() -> list[str]:
    """Kinds of all models and graphs that something still holds."""
    gc.collect()
    kinds = (type(one) for one in gc.get_objects())
    return sorted(kind.__name__ for kind in kinds if issubclass(kind, tf.Graph | keras.Model))


@pytest.mark.slow
def test_three_fine_tunings_leave_no_graph_and_no_model_behind(tmp_path: Path):
    examples = data.LabelledTexts(["rose", "fell by a half"] * 4, {"label": [0, 1] * 4}, list(range(8)))
    run = make_run(
        {
            "objective": {"task": "text_classification"},
            "data": {"labels": ["good", "bad"]},
            "backbone": {"num_layers": 1, "hidden_dim": 8, "num_heads": 2, "max_length": 16},
            "train": {"steps": 2, "sequence_length": 16, "global_batch": 4},
            "export": {"sequence_length": 16},
        }
    )
    found = []
    for number in range(3):
        fine_tuning.fine_tune(run, text.ByteTokenizer(), (examples, examples), tmp_path / str(number), None)
        found.append(living())
    assert found[2] == found[1] == found[0], "what the first one leaves is made once: the check of the weights"
    assert "TextClassifier" not in found[0]
