"""Does the program that judges a GPT count the tokens, bytes and characters of the held-out text, and its loss?"""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TEXT = "a last text of 40 bytes, with 我们 two"
COUNTS = [32, 32, 31]  # tokens, bytes and characters of two rows of 16; the rest, from half a character on, fills none
SETTINGS = {
    "tokenizer": {"kind": "byte"},
    "data": {"document_boundary": "file", "held_out_share": 0},
    "objective": {"task": "gpt_pretraining"},
    "backbone": {
        "architecture": "gpt",
        "num_layers": 1,
        "hidden_dim": 16,
        "num_heads": 2,
        "max_length": 16,
        "num_token_types": 0,
        "norm_order": "pre",
    },
    "train": {"steps": 1, "sequence_length": 16, "global_batch": 4},
    "export": {"sequence_length": 16},
}


def test_a_gpt_that_knows_nothing_needs_eight_bits_and_a_little_for_each_byte_of_the_held_out_text(tmp_path: Path):
    import tensorflow as tf

    from kerasllm import config, data, models, trained

    (tmp_path / "train.txt").write_text("some other text", encoding="utf-8")
    (tmp_path / "held_out.txt").write_text(TEXT, encoding="utf-8")
    run, held_out_inputs = config.make_run(SETTINGS), [str(tmp_path / "held_out.txt")]
    data.prepare_corpus([str(tmp_path / "train.txt")], tmp_path / "corpus", run, held_out_inputs=held_out_inputs)
    tokenizer = data.open_corpus(tmp_path / "corpus").tokenizer
    model = models.from_run(run, tokenizer.vocab_size)
    model.backbone.embedding.word_table.assign(tf.zeros([261, 16]))
    trained.save(tmp_path / "workdir", run, tokenizer, model)
    command = [sys.executable, "-m", "apps.pretrain.evaluate", "--corpus", tmp_path / "corpus"]
    command += ["--workdir", tmp_path / "workdir", "--output", tmp_path / "metrics.json"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    held_out = found["held_out"]
    assert [held_out[what] for what in ("tokens", "bytes", "characters")] == COUNTS
    assert held_out["bits_per_byte"] == pytest.approx(math.log2(261), rel=1e-5)
    assert f"{held_out['bits_per_byte']:.4f}" in done.stdout
    assert found["variety"]["true"]["distinct_1"] == 14 / 24  # of two times twelve tokens behind the prompts
    assert found["variety"]["generated"].keys() == found["variety"]["true"].keys()
