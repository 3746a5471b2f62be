"""Does a GPT that was tuned on dialogues answer them, once it is exported, by the template beside it?"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

CITIES = ["Oslo", "Rome", "Lima", "Bonn", "Cairo", "Delhi", "Quito", "Tokyo", "Paris", "Kyiv"]
CONFIG = """
objective: {task: dialogue}
tokenizer: {kind: byte}
backbone: {architecture: gpt, num_layers: 2, hidden_dim: 64, num_heads: 2, max_length: 96, num_token_types: 0,
  positions: rotary, norm_order: pre, dropout: 0.0, attention_dropout: 0.0}
optimizer: {peak_learning_rate: 5.0e-3, weight_decay: 0.0}
train: {steps: 250, global_batch: 10, sequence_length: 96, pack: true, log_every: 50, evaluate_every: 250,
  checkpoint_every: 250}
export: {sequence_length: 96}
"""


def dialogues() -> list[list[str]]:
    """Twenty of them, half with a second question whose answer stands in the first one."""
    return [
        [f"Code of {city} {kind}?", f"It is {17 * number}.", *(["Sure?", f"Yes, {city}."] if kind == "sea" else [])]
        for number, (city, kind) in enumerate((city, kind) for city in CITIES for kind in ("air", "sea"))
    ]


def run(module: str, *flags: object) -> None:
    done = subprocess.run([sys.executable, "-m", module, *map(str, flags)], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, f"{module} failed:\n{done.stderr[-3000:]}"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an exported model that has seen all dialogues often."""
    from kerasllm.text import ByteTokenizer

    root = tmp_path_factory.mktemp("dialogues")
    lines = [
        json.dumps({"turns": [{"speaker": ("user", "agent")[n % 2], "text": text} for n, text in enumerate(said)]})
        for said in dialogues()
    ]
    (root / "chats.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (root / "other.jsonl").write_text(lines[0].replace("Code", "The code"), encoding="utf-8")
    (root / "run.yaml").write_text(CONFIG, encoding="utf-8")
    ByteTokenizer().save(root / "bytes")
    run(
        *("apps.pretrain.train_dialogues", "--config", root / "run.yaml", "--input", root / "chats.jsonl"),
        *("--validation_input", root / "other.jsonl", "--tokenizer", root / "bytes", "--workdir", root / "workdir"),
    )
    run("serving.export", "--workdir", root / "workdir", "--base_path", root / "exports", "--name", "chat")
    return root / "exports" / "chat" / "1"


def test_twenty_learned_dialogues_are_answered_after_export_by_the_template_beside_the_model(exported: Path):
    import tensorflow as tf

    from kerasllm.export.settings import greedy

    template = json.loads((exported / "assets.extra" / "chat_template.json").read_text(encoding="utf-8"))
    roles = template["roles"]
    prompts, expected = [], []
    for said in dialogues():
        text = ""
        for number, message in enumerate(said):
            role = roles[("user", "assistant")[number % 2]]
            if number % 2:
                prompts.append(f"{text}{role['prefix']}")
                expected.append(message)
            text += f"{role['prefix']}{message}{role['suffix']}"
    assert len(prompts) == 30
    settings = greedy(20, len(prompts))
    settings["stop"] = np.array([[stop.encode() for stop in template["stop"]]] * len(prompts), object)
    model = tf.saved_model.load(str(exported))
    inputs = {name: tf.constant(value) for name, value in settings.items()}
    answers = model.signatures["generate"](prompt=tf.constant(prompts), **inputs)
    assert [text.decode() for text in answers["text"].numpy()] == expected
    assert set(answers["finish_reason"].numpy().tolist()) == {b"stop"}
