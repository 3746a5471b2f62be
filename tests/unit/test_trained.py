"""Does a workdir give back its model, and probabilities as its decisions say?"""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from kerasllm import fine_tuning, models, trained
from kerasllm.config import Run, make_run
from kerasllm.data import NO_LABEL, OUT_OF_SCOPE, LabelledTexts
from kerasllm.decisions import ClassDecision, softmax, write_decisions
from kerasllm.errors import CheckpointError
from kerasllm.text import WordPieceTokenizer, pack_texts

TOKENIZER = WordPieceTokenizer(b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc")
TEXTS = ["a", "b c a", "", "c c c c c c c c c c c c c c c c c c", "a"]


def run_of(**data: object) -> Run:
    return make_run(
        {
            "data": data,
            "backbone": {"num_layers": 1, "hidden_dim": 8, "num_heads": 2, "max_length": 32},
            "objective": {"task": "text_classification"},
            "train": {"steps": 1, "sequence_length": 32},
            "export": {"sequence_length": 32},
        }
    )


def saved(folder: Path, run: Run) -> Path:
    return trained.save(folder, run, TOKENIZER, models.from_run(run, TOKENIZER.vocab_size))


def test_probabilities_are_those_of_the_decisions_temperature(tmp_path: Path):
    workdir = saved(tmp_path, run_of(labels=["x", "y"]))
    plain = trained.load(workdir)
    logits = trained.score(plain, TEXTS)["label"]
    np.testing.assert_allclose(trained.classify(plain, TEXTS)["label"], softmax(logits), atol=1e-6)
    write_decisions(workdir / "decisions.json", {"label": ClassDecision(4.0, (0.0, 0.0), 1.0, 0.0)})
    scaled = trained.classify(trained.load(workdir), TEXTS)["label"]
    np.testing.assert_allclose(scaled, softmax(logits / 4), atol=1e-6)


def test_a_loaded_model_computes_no_padding_and_says_what_the_saved_one_says(tmp_path: Path):
    run, rows = run_of(labels=["x", "y"]), pack_texts(TOKENIZER, tf.constant(TEXTS), 32)
    model = models.from_run(run, TOKENIZER.vocab_size)
    loaded = trained.load(trained.save(tmp_path, run, TOKENIZER, model)).model
    assert loaded.backbone.skips_padding
    np.testing.assert_allclose(loaded(rows)["label_logits"], model(rows)["label_logits"], atol=1e-6)


def test_the_order_of_the_texts_is_kept_and_batches_do_not_matter(tmp_path: Path):
    one = trained.load(saved(tmp_path, run_of(labels=["x", "y"])))
    whole, small = trained.score(one, TEXTS)["label"], trained.score(one, TEXTS, batch=2)["label"]
    np.testing.assert_allclose(whole, small, atol=1e-6)
    np.testing.assert_allclose(whole[0], whole[4], atol=1e-6)
    assert trained.score(one, [])["label"].shape == (0, 2)


def test_pairs_are_scored_together(tmp_path: Path):
    one = trained.load(saved(tmp_path, run_of(labels=["x", "y"], second_text_column="other")))
    forth, back = trained.score(one, ["a"], ["b c"])["label"], trained.score(one, ["b c"], ["a"])["label"]
    assert np.abs(forth - back).max() > 0


def test_decisions_of_another_run_are_refused(tmp_path: Path):
    workdir = saved(tmp_path, run_of(labels=["x", "y"]))
    write_decisions(workdir / "decisions.json", {"label": ClassDecision.undecided(3)})
    with pytest.raises(CheckpointError, match="the decisions of 'label' are of another run"):
        trained.load(workdir)


def test_decisions_are_fitted_on_the_rows_that_have_a_label(tmp_path: Path):
    heads = {"mood": {"column": "m", "labels": ["x", "y"]}, "topic": {"column": "t", "labels": ["p", "q", "r"]}}
    one = trained.load(saved(tmp_path, run_of(heads=heads, out_of_scope_label="oos")))
    labels = {"mood": [0, 1, NO_LABEL, OUT_OF_SCOPE, 0], "topic": [NO_LABEL] * 5}
    decisions = fine_tuning.fit_decisions(one, LabelledTexts(TEXTS, labels, [2, 3, 4, 5, 6]))
    assert decisions["mood"].scope_below is not None
    assert len(decisions["mood"].thresholds) == 2
    # No row says anything of the topic: nothing is promised, so nothing is answered.
    assert decisions["topic"].abstains([[0.0, 0.0, 1.0]]).all()
    assert decisions["topic"].scope_below is None
