"""Does the whole path hold together? The programs, one after another, as a user runs them."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

TINY_BACKBONE = (
    "backbone: {num_layers: 1, hidden_dim: 32, num_heads: 2, max_length: 48}\nexport: {sequence_length: 48}\n"
)
PRETRAINING = TINY_BACKBONE + (
    "tokenizer: {vocab_size: 1500}\n"
    "train: {steps: 12, global_batch: 8, sequence_length: 48, log_every: 4, evaluate_every: 6, checkpoint_every: 6,"
    " evaluation_rows: 16}\n"
)
SENTIMENT = TINY_BACKBONE + (
    "data: {labels: [negative, neutral, positive]}\n"
    "objective: {task: text_classification}\n"
    "optimizer: {peak_learning_rate: 1.0e-3}\n"
    "train: {steps: 20, global_batch: 16, sequence_length: 48, log_every: 10, evaluate_every: 10,"
    " checkpoint_every: 10}\n"
)


def program(module: str, *flags: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", module, *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def run(module: str, *flags: object) -> str:
    done = program(module, *flags)
    assert done.returncode == 0, f"{module} failed:\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    """The folder of a finished path: world, corpus, pretrained, labelled, sentiment, exports."""
    root = tmp_path_factory.mktemp("path")
    (root / "pretraining.yaml").write_text(PRETRAINING)
    (root / "sentiment.yaml").write_text(SENTIMENT)
    run("apps.sample_world.generate", "--output", root / "world", "--megabytes", 1)
    inputs = [f"--input=doc_marker:{root}/world/corpus/market_news_{language}.txt" for language in ("en", "zh")]
    run("apps.pretrain.prepare", "--config", root / "pretraining.yaml", *inputs, "--output", root / "corpus")
    run(
        *("apps.pretrain.train", "--config", root / "pretraining.yaml", "--corpus", root / "corpus"),
        *("--workdir", root / "pretrained"),
    )
    run(
        *("apps.financial_sentiment.prepare", "--config", root / "sentiment.yaml", "--output", root / "labelled"),
        *(f"--input={root}/world/sentiment/train.tsv", f"--test_input={root}/world/sentiment/test.tsv"),
    )
    run(
        *("apps.financial_sentiment.train", "--config", root / "sentiment.yaml", "--data", root / "labelled"),
        *("--init_from", root / "pretrained", "--workdir", root / "sentiment"),
    )
    run("serving.export", "--workdir", root / "sentiment", "--base_path", root / "exports", "--name", "sentiment")
    return root


def test_evaluation_writes_metrics_a_picture_and_the_wrong_rows(path):
    out = run(
        *("apps.financial_sentiment.evaluate", "--workdir", path / "sentiment"),
        *("--data", path / "labelled" / "test.tsv", "--output", path / "scores" / "metrics.json"),
    )
    scores = json.loads((path / "scores" / "metrics.json").read_text())
    label = scores["heads"]["label"]
    assert f"{label['accuracy']:.4f}" in out
    assert 0 <= label["calibration"]["error_after"] <= 1
    wrong = (path / "scores" / "misclassified.tsv").read_text().splitlines()[1:]
    assert len(wrong) == round(label["num_examples"] * (1 - label["accuracy"]))
    assert (path / "scores" / "confusion_matrix.png").read_bytes().startswith(b"\x89PNG")


def test_bulk_prediction_keeps_every_row_in_order(path):
    texts = ["Net profit rose.", "公司净利润下降。", "Net profit rose.", "😀"]
    (path / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    run(
        *("apps.financial_sentiment.predict", "--workdir", path / "sentiment"),
        *("--input", path / "texts.txt", "--output", path / "scored.tsv"),
    )
    with open(path / "scored.tsv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert [row["text"] for row in rows] == texts
    assert rows[0] == rows[2]
    for row in rows:
        scores = {name: float(row[name]) for name in ("negative", "neutral", "positive")}
        assert sum(scores.values()) == pytest.approx(1, abs=1e-5)
        assert row["label"] == max(scores, key=scores.__getitem__)


def test_served_probabilities_are_the_models_for_100_sentences_in_both_languages(path):
    from kerasllm.trained import classify, load
    from serving.clients import PredictClient

    with open(path / "labelled" / "test.tsv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    english = [row["text"] for row in rows if row["text"].isascii()][:50]
    chinese = [row["text"] for row in rows if not row["text"].isascii()][:50]
    assert len(english) == len(chinese) == 50
    expected = classify(load(path / "sentiment"), english + chinese)["label"]
    server = subprocess.Popen(
        [sys.executable, "-m", "serving.server", "--port=0", "--model_name=sentiment"]
        + [f"--model_base_path={path}/exports/sentiment"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        address = next(line.split()[4] for line in server.stdout if line.startswith("Running gRPC ModelServer at"))
        with PredictClient(address, "sentiment") as client:
            served = client.predict({"text": english + chinese})
        np.testing.assert_allclose(served["probabilities"], expected, atol=1e-5)
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0


def test_the_same_workdir_with_another_configuration_shows_the_difference_and_stops(path):
    done = program(
        *("apps.pretrain.train", "--config", path / "pretraining.yaml", "--set", "train.steps=13"),
        *("--corpus", path / "corpus", "--workdir", path / "pretrained"),
    )
    assert done.returncode == 1
    assert "train.steps: 12 -> 13" in done.stderr


def test_a_vocabulary_that_does_not_match_the_shards_is_refused(path):
    vocabulary = path / "corpus" / "vocab.txt"
    original = vocabulary.read_bytes()
    vocabulary.write_bytes(original + b"intruder\n")
    try:
        done = program(
            *("apps.pretrain.train", "--config", path / "pretraining.yaml"),
            *("--corpus", path / "corpus", "--workdir", path / "never"),
        )
    finally:
        vocabulary.write_bytes(original)
    assert done.returncode == 1
    assert "vocabulary" in done.stderr
    assert not os.path.exists(path / "never")


def test_a_busy_port_is_one_clear_error(path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = program(
            *("serving.server", "--port", port, "--model_name", "sentiment"),
            *("--model_base_path", path / "exports" / "sentiment"),
        )
    assert done.returncode not in (0, None)
    assert str(port) in done.stderr
