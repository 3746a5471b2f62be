"""Does the monitor lose anything when the real model server is killed under it and comes back?"""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kerasllm.config import make_run
from serving.clients import PredictClient

ROOT = Path(__file__).parents[2]
WORDS = ("profit", "loss", "sales", "fell", "rose", "the", "bank", "shares", "outlook", "unchanged")
NUM_EVENTS = 3000


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """A tiny classifier of random weights, exported; its labels depend on the text."""
    import keras

    from kerasllm import models
    from kerasllm.export import write_classifier
    from kerasllm.text import train_wordpiece

    run = make_run(
        {
            "data": {"labels": ["positive", "neutral", "negative"]},
            "backbone": {"num_layers": 1, "hidden_dim": 16, "num_heads": 2, "max_length": 32},
            "objective": {"task": "text_classification"},
            "train": {"steps": 1, "sequence_length": 32},
            "export": {"sequence_length": 32},
        }
    )
    keras.utils.set_random_seed(5)
    tokenizer = train_wordpiece([" ".join(WORDS)] * 3, 200)
    model = models.from_run(run, tokenizer.vocab_size)
    for weight in model.trainable_weights:
        weight.assign(weight * 4.0)
    folder = tmp_path_factory.mktemp("export")
    write_classifier(model, tokenizer, run, folder, "sentiment")
    return folder / "sentiment"


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    chance, path = random.Random(4), tmp_path_factory.mktemp("stream") / "events.jsonl"
    texts = [" ".join(chance.choices(WORDS, k=6)) for _ in range(NUM_EVENTS)]
    lines = [{"time": 1_767_225_600 + 60 * n, "id": n, "text": text, "topic": "bank"} for n, text in enumerate(texts)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def start_server(export, port):
    command = [sys.executable, "-m", "serving.server", f"--port={port}", "--model_name=sentiment"]
    process = subprocess.Popen(
        [*command, f"--model_base_path={export}"], cwd=ROOT, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    line = process.stdout.readline()
    assert line.startswith("Running gRPC ModelServer at 127.0.0.1:"), line
    return process, line.split()[4]


def start_monitor(address, stream, workdir, label):
    command = [sys.executable, "-m", "apps.financial_sentiment.monitor", f"--server={address}", f"--input={stream}"]
    flags = [
        f"--workdir={workdir}",
        "--batch=4",
        "--commit_s=0",
        "--deadline_s=5",
        "--notensorboard",
        f"--negative_label={label}",
    ]
    return subprocess.Popen(
        [*command, *flags, "--nomask_personal_data"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def counted(workdir):
    path = workdir / "state.json"
    return json.loads(path.read_text(encoding="utf-8"))["counts"].get("counted", 0) if path.exists() else 0


@pytest.mark.slow
def test_a_server_killed_in_the_middle_and_started_again_costs_nothing(export, stream, tmp_path):
    server, address = start_server(export, 0)
    try:
        with PredictClient(address, "sentiment") as client:  # random weights: some label that it does give
            label = client.classify([" ".join(WORDS[:6])])[0]["label"]
        monitor = start_monitor(address, stream, tmp_path / "killed", label)
        deadline = time.monotonic() + 60
        while counted(tmp_path / "killed") < NUM_EVENTS // 10 and time.monotonic() < deadline:
            time.sleep(0.01)
        server.kill()
        server.wait()
        assert any("nothing is lost" in line for line in monitor.stderr)
        assert NUM_EVENTS // 10 <= counted(tmp_path / "killed") < NUM_EVENTS
        server, _ = start_server(export, address.rpartition(":")[2])
        output, errors = monitor.communicate(timeout=120)
        assert monitor.returncode == 0, errors
        assert "answers again" in errors
        assert f"{NUM_EVENTS:,} counted, 0 duplicate, 0 late, 0 rejected" in output
        undisturbed = start_monitor(address, stream, tmp_path / "undisturbed", label)
        _, errors = undisturbed.communicate(timeout=120)
        assert undisturbed.returncode == 0, errors
    finally:
        server.kill()
        server.wait()
    mood = (tmp_path / "undisturbed/mood.jsonl").read_bytes()
    assert (tmp_path / "killed/mood.jsonl").read_bytes() == mood
    assert {json.loads(line)["negative"] > 0 for line in mood.splitlines()} == {True}
