"""Does the program take a run to Hugging Face's form and to a preset, and a preset to a run?"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from apps import convert
from kerasllm import interop, make_run, models, text, trained
from kerasllm.errors import ConfigError

PROJECT = Path(__file__).parents[3]
BACKBONE = {"num_layers": 1, "hidden_dim": 8, "num_heads": 2, "max_length": 16, "activation": "gelu_tanh"}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "bert"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(300))]
    tokenizer = text.WordPieceTokenizer("".join(f"{word}\n" for word in words).encode())
    length = {"sequence_length": 16}
    run = make_run(
        {
            "objective": {"task": "bert_pretraining"},
            "backbone": BACKBONE,
            "train": {"steps": 1, **length},
            "export": length,
        }
    )
    trained.save(path, run, tokenizer, models.from_run(run, tokenizer.vocab_size))
    return path


def test_a_run_becomes_a_hugging_face_folder(workdir, tmp_path):
    source = trained.load(workdir)
    assert convert.to_hugging_face(source, tmp_path / "bert") == []
    np.testing.assert_array_equal(source.model.masked_lm.bias, interop.load_bert(tmp_path / "bert").masked_lm.bias)
    convert.to_hugging_face(source, tmp_path / "backbone", backbone_only=True)
    assert isinstance(interop.load_bert(tmp_path / "backbone"), models.BertBackbone)


def test_a_run_becomes_a_preset_without_its_heads_and_the_preset_a_run(workdir, tmp_path):
    ours = trained.load(workdir)
    left = convert.to_preset(ours, tmp_path / "preset")
    assert "bert_pretrainer/masked_lm/bias" in left
    assert not [name for name in left if "backbone" in name or "tokenizer" in name]
    convert.fetch(tmp_path / "preset", tmp_path / "again")
    again = trained.load(tmp_path / "again")
    assert again.tokenizer.fingerprint == ours.tokenizer.fingerprint
    for weight, twin in zip(ours.model.backbone.weights, again.model.backbone.weights, strict=True):
        np.testing.assert_array_equal(weight, twin, weight.path)
    with pytest.raises(ConfigError, match="again exists already"):
        convert.fetch(tmp_path / "preset", tmp_path / "again")


def test_flags_that_say_no_direction_end_with_one_line():
    command = [sys.executable, "-m", "apps.convert", "--workdir=runs/bert", "--to=keras_nlp"]
    finished = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert finished.returncode == 1
    assert finished.stderr == "error: give --to and --output to write a model, or --preset to fetch one.\n"
