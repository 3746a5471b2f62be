"""Does the customer-service application hold together? From dialogues to a served chat, as a user runs it."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CONFIG = """
tokenizer: {vocab_size: 1000}
data: {out_of_scope_label: oos}
backbone: {num_layers: 1, hidden_dim: 32, num_heads: 2, max_length: 48}
matching: {query_length: 32, passage_length: 32, hard_negatives: 1, candidates: 4}
decisions: {precision: 0.2}
assistant: {right_when: same_intent, past_questions: 5}
objective: {pooling: mean}
optimizer: {peak_learning_rate: 2.0e-3}
train: {steps: 30, global_batch: 16, sequence_length: 48, log_every: 30, evaluate_every: 30, checkpoint_every: 30}
export: {sequence_length: 32}
parts:
  intent: {train: {steps: 60}}
  matching: {train: {steps: 60}}
  reranking: {train: {steps: 10}}
  generation:
    objective: {task: dialogue}
    tokenizer: {kind: sentencepiece, vocab_size: 800}
    backbone: {architecture: gpt, num_layers: 1, hidden_dim: 32, num_heads: 2, max_length: 224, num_token_types: 0,
      positions: rotary, norm_order: pre, dropout: 0.0, attention_dropout: 0.0}
    grounding: {replies: 2, max_new_tokens: 48, cited_from: 0.05, right_from: 0.01}
    train: {steps: 60, sequence_length: 224, pack: true, evaluation_rows: 32}
"""
DOCUMENTS = Path(__file__).parents[2] / "apps" / "customer_service" / "sample_documents"


def program(module: str, *flags: object, **options: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", module, *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)


def run(module: str, *flags: object) -> str:
    done = program(module, *flags)
    assert done.returncode == 0, f"{module} failed:\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    """The folder of a finished path: world, data, support (the workdir), exports."""
    root = tmp_path_factory.mktemp("service")
    (root / "service.yaml").write_text(CONFIG)
    run("apps.sample_world.generate", "--output", root / "world", "--megabytes", 1)
    world = root / "world" / "customer_service"
    run(
        *("apps.customer_service.prepare", "--config", root / "service.yaml", "--output", root / "data"),
        *(f"--input=faq={world}/faq.tsv", f"--input=intents={world}/train.tsv"),
        *(f"--input=dialogues={world}/dialogues.jsonl", f"--test_input=intents={world}/test.tsv"),
        f"--slots={DOCUMENTS.with_name('sample_world_slots.yaml')}",
    )
    run(
        *("apps.customer_service.train", "--config", root / "service.yaml", "--data", root / "data"),
        *("--workdir", root / "support"),
    )
    run("apps.customer_service.generator", "--config", root / "service.yaml", "--workdir", root / "support")
    (root / "replies.tsv").write_text(
        "reply\nOrder {order_number} is cancelled.\n我们每天九点开门。\n", encoding="utf-8"
    )
    run(
        *("apps.customer_service.index", "--workdir", root / "support", "--replies", root / "replies.tsv"),
        *("--documents", DOCUMENTS, "--base_path", root / "exports"),
    )
    return root


@contextmanager
def served(path: Path) -> Iterator[str]:
    """The address of a server of the exported assistant; it ends cleanly."""
    server = subprocess.Popen(
        [sys.executable, "-m", "serving.server", "--port=0", "--model_name=assistant"]
        + [f"--model_base_path={path}/exports/assistant"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        yield next(line.split()[4] for line in server.stdout if line.startswith("Running gRPC ModelServer at"))
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0


def test_a_new_catalogue_is_served_without_training_and_the_log_is_masked(path):
    (path / "questions.txt").write_text("please cancel order 48213, a.b@example.com\n\n几点开门\n", encoding="utf-8")
    with served(path) as address:
        said = run(
            *("apps.customer_service.chat", "--server", address, "--model", "assistant", "--deadline_s", 120),
            *("--questions", path / "questions.txt", "--log", path / "chat.jsonl"),
        )
        from serving.clients import PredictClient

        with PredictClient(address, "assistant", 120) as client:
            signatures = {"serving_default", "reply", "generate_reply", "intent", "embed", "token_ids"}
            assert set(client.metadata()) == signatures
            intent = client.predict({"text": ["cancel my order"]}, "intent")
            assert intent["probabilities"].sum() == pytest.approx(1, abs=1e-5)
            answers = client.predict({"question": ["几点开门"], "context": [""]}, "reply")
        matched = {candidate.decode() for candidate in answers["candidates"][0]}
        assert matched == {"Order {order_number} is cancelled.", "我们每天九点开门。"}
    log = (path / "chat.jsonl").read_text(encoding="utf-8")
    turns = [json.loads(line) for line in log.splitlines()]
    assert [turn["question"] for turn in turns] == ["please cancel order 48213, <EMAIL>", "几点开门"]
    assert all(turn["reply"] in said for turn in turns)


def test_a_written_reply_is_served_as_it_was_exported_and_makes_up_no_value(path):
    import tensorflow as tf

    from kerasllm.export.golden import read_parity
    from kerasllm.text.slots import read_slots
    from kerasllm.text.values import are_copied
    from serving.clients import PredictClient, generate_reply, reply

    call = next(
        one
        for one in read_parity(path / "exports" / "assistant" / "1" / "assets.extra" / "parity.json")
        if one.signature == "generate_reply"
    )
    question, context = "please cancel order 48213 by 5 May", "customer: hello\nassistant: order 777?"
    slots = read_slots(path / "data" / "slots.yaml")
    with served(path) as address, PredictClient(address, "assistant", 120) as client:
        answers = client.predict(dict(call.inputs), "generate_reply")
        for name in ("reply", "generated", "source", "cited", "cited_ids"):
            assert answers[name].tolist() == call.outputs[name].tolist(), name
        assert answers["score"] == pytest.approx(call.outputs["score"], abs=1e-4)
        known = reply(client, question, context)
        never = generate_reply(client, question, context, min_score=1.0)
        assert (never.source, never.reply, never.action) == ("retrieved", known.reply, known.action)
        tried = [generate_reply(client, question, context, 48, 2.0, seed, min_score=0.0) for seed in range(12)]
    ended = [one for one in tried if one.num_tokens < 48]  # one that is cut may stop in a value, and is not given
    sources = [" \n ".join([*one.retrieved, question, "hello"]) for one in ended]
    texts = [one.generated for one in ended]
    # A value that only a slot's pattern tells may be written; the graph then gives the retrieved reply.
    assert are_copied(tf.constant(texts, tf.string), tf.constant(sources, tf.string), []).numpy().all(), texts
    for one in (one for one in tried if one.source == "generated"):
        source = " \n ".join([*one.retrieved, question, "hello"])
        assert are_copied(tf.constant([one.reply]), tf.constant([source]), slots).numpy().all(), one
        assert set(one.cited) - {""} <= set(one.retrieved)


def test_evaluation_writes_figures_of_intents_and_replies_and_every_answer(path):
    out = run(
        *(
            "apps.customer_service.evaluate",
            "--workdir",
            path / "support",
            "--output",
            path / "scores" / "metrics.json",
        ),
        *("--data", path / "data" / "pairs" / "test.tsv", "--intents", path / "data" / "intents" / "test.tsv"),
    )
    scores = json.loads((path / "scores" / "metrics.json").read_text())
    replies = scores["replies"]
    assert 0 <= replies["recall_at_1"] <= replies["recall_at_5"] <= 1
    assert sum(replies["actions"].values()) == replies["num_examples"]
    assert len((path / "scores" / "answers.tsv").read_text().splitlines()) == replies["num_examples"] + 1
    assert f"{scores['intents']['accuracy']:.4f}" in out
    written = scores["written_replies"]
    num_retrieved = sum(written["retrieved_instead"].values())
    assert num_retrieved + round(written["share_written"] * replies["num_examples"]) == replies["num_examples"]


def test_bulk_answers_keep_every_row_in_order(path):
    questions = ["cancel order 48213", "", "几点开门"]
    (path / "bulk.txt").write_text("\n".join(questions) + "\n", encoding="utf-8")
    run(
        *("apps.customer_service.predict", "--workdir", path / "support"),
        *("--input", path / "bulk.txt", "--output", path / "answered.tsv"),
    )
    rows = [line.split("\t") for line in (path / "answered.tsv").read_text(encoding="utf-8").splitlines()]
    assert [row[0] for row in rows] == ["question", *questions]


def test_a_folder_that_prepare_did_not_write_is_one_clear_error(path, tmp_path):
    done = program(
        *("apps.customer_service.train", "--config", path / "service.yaml", "--data", tmp_path),
        *("--workdir", tmp_path / "new"),
    )
    assert done.returncode == 1
    assert "has no slots.yaml" in done.stderr
