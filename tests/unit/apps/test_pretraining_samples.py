"""What does TensorBoard show of a GPT's writing while it learns?"""

from pathlib import Path

import pytest

from apps.pretrain import task
from kerasllm import config, data, models


@pytest.mark.parametrize("max_length", [8, 64])
def test_samples_have_the_room_that_the_model_has(tmp_path: Path, max_length: int) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"<DOC> {n}\nThe bank said that profit rose in year {n}." for n in range(60)), "utf-8")
    backbone = {"architecture": "gpt", "num_layers": 1, "hidden_dim": 8, "num_heads": 2, "max_length": max_length}
    run = config.make_run(
        {
            "tokenizer": {"kind": "byte"},
            "data": {"held_out_share": 0.3},
            "objective": {"task": "gpt_pretraining"},
            "backbone": backbone,
            "train": {"global_batch": 4, "sequence_length": 8, "steps": 1},
            "export": {"sequence_length": 8},
        }
    )
    data.prepare_corpus([str(text)], tmp_path / "corpus", run)
    corpus = data.open_corpus(tmp_path / "corpus")
    model = models.from_run(run, corpus.tokenizer.vocab_size)
    table = task.text_samples(corpus, run)(model, 0)["continuations"].splitlines()
    assert table[0] == "| prompt | continued |"
    assert len(table) == 2 + task.NUM_SAMPLES
