"""Does a served answer equal the model's? From a classifier to its export, the server, and the client."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kerasllm.config import dump_run, make_run
from serving.clients import PredictClient, VersionStatus

ROOT = Path(__file__).parents[2]
LABELS = ["positive", "neutral", "negative"]
TEXTS = [
    "Operating profit rose to EUR 13.1 mn from EUR 8.7 mn.",
    "Sales FELL by 10%; the outlook is unchanged.",
    "公司第三季度净利润同比下降。",
    "营业收入增长，mixed with English words",
    "",
    "emoji 😀 and a null byte \x00 inside",
    "long " * 200,
]


@pytest.fixture(scope="module")
def run():
    return make_run(
        {
            "data": {"labels": LABELS},
            "backbone": {"num_layers": 2, "hidden_dim": 32, "num_heads": 2, "max_length": 64},
            "objective": {"task": "text_classification"},
            "train": {"steps": 1, "sequence_length": 32},
            "export": {"sequence_length": 32},
        }
    )


@pytest.fixture(scope="module")
def tokenizer():
    from kerasllm.text import train_wordpiece

    return train_wordpiece(TEXTS * 3, 400)


@pytest.fixture(scope="module")
def model(run, tokenizer):
    import keras

    from kerasllm import models

    keras.utils.set_random_seed(5)
    model = models.from_run(run, tokenizer.vocab_size)
    for weight in model.trainable_weights:  # larger weights: probabilities that differ from text to text
        weight.assign(weight * 3.0)
    return model


@pytest.fixture(scope="module")
def expected(run, model, tokenizer):
    """Probabilities [text, class] from the model itself, each row padded to the full length."""
    import tensorflow as tf

    from kerasllm.text import pack_texts

    rows = pack_texts(tokenizer, tf.constant(TEXTS), run.export.sequence_length)
    return tf.nn.softmax(model(rows, training=False)["label_logits"]).numpy()


@pytest.fixture(scope="module")
def exports(run, model, tokenizer, tmp_path_factory):
    from kerasllm.export import write_classifier

    folder = tmp_path_factory.mktemp("exports")
    write_classifier(model, tokenizer, run, folder, "sentiment")
    return folder


@pytest.fixture(scope="module")
def address(exports):
    from serving.server.core import ServerCore
    from serving.server.services import start_server
    from serving.server.versions import ModelConfig, Models

    models = Models([ModelConfig("sentiment", exports / "sentiment")])
    models.start(0)
    server, port = start_server(ServerCore(models), "127.0.0.1", 0, 4)
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()
    models.close()


def test_served_probabilities_equal_the_models(address, expected):
    assert np.ptp(expected, axis=0).max() > 0.01  # otherwise equal answers would prove nothing
    with PredictClient(address, "sentiment") as client:
        together = client.predict({"text": TEXTS})
        alone = [client.predict({"text": [text]})["probabilities"][0] for text in TEXTS]
    np.testing.assert_allclose(together["probabilities"], expected, atol=1e-5)
    np.testing.assert_allclose(alone, expected, atol=1e-5)
    assert [label.decode() for label in together["label"]] == [LABELS[i] for i in expected.argmax(1)]


def test_no_texts_get_no_answers(address):
    with PredictClient(address, "sentiment") as client:
        answer = client.predict({"text": np.array([], object)})
    assert answer["probabilities"].shape == (0, 3)
    assert answer["label"].shape == (0,)


def test_the_client_classifies_texts(address, expected):
    with PredictClient(address, "sentiment") as client:
        answers = client.classify(TEXTS[:2])
        assert client.status() == [VersionStatus(1, "AVAILABLE")]
        assert client.metadata()["serving_default"] == {
            "inputs": {"text": "string [-1]"},
            "outputs": {
                "abstain": "bool [-1]",
                "in_set": "bool [-1, 3]",
                "label": "string [-1]",
                "probabilities": "float [-1, 3]",
            },
        }
    assert [answer["label"] for answer in answers] == [LABELS[i] for i in expected[:2].argmax(1)]
    np.testing.assert_allclose(answers[0]["probabilities"], expected[0], atol=1e-5)


def test_the_classify_call_lists_classes_with_scores(address, expected):
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import classification_pb2, prediction_service_pb2_grpc

    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "sentiment", "classify"
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[TEXTS[2].encode()]))
    request.input.example_list.examples.add(features=tf.train.Features(feature={"text": feature}))
    with grpc.insecure_channel(address) as channel:
        response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Classify(request)
    classes = response.result.classifications[0].classes
    assert [found.label for found in classes] == LABELS
    np.testing.assert_allclose([found.score for found in classes], expected[2], atol=1e-5)


def test_the_command_line_prints_a_label_and_probabilities_for_each_text(address, expected):
    command = [sys.executable, "-m", "serving.clients.cli", f"--server={address}", "--model=sentiment"]
    shown = subprocess.run([*command, *TEXTS[:2]], cwd=ROOT, capture_output=True, text=True, check=True)
    label = LABELS[expected[0].argmax()]
    numbers = " ".join(f"{probability:.3f}" for probability in expected[0])
    assert shown.stdout.splitlines()[0] == f"{label:<12}  {numbers}  {TEXTS[0]}"
    lines = "\n".join(TEXTS[:3]) + "\n"
    read = subprocess.run([*command, "--json"], cwd=ROOT, input=lines, capture_output=True, text=True, check=True)
    answers = [json.loads(line) for line in read.stdout.splitlines()]
    assert [answer["text"] for answer in answers] == TEXTS[:3]
    np.testing.assert_allclose(answers[2]["probabilities"], expected[2], atol=1e-5)


def test_the_command_line_calls_any_signature_with_inputs_of_its_own(address, expected):
    command = [sys.executable, "-m", "serving.clients.cli", f"--server={address}", "--model=sentiment"]
    asked = ["--signature=serving_default", f"--inputs={json.dumps({'text': TEXTS[:2]})}"]
    shown = subprocess.run([*command, *asked], cwd=ROOT, capture_output=True, text=True, check=True)
    answers = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [answer["label"] for answer in answers] == [LABELS[row.argmax()] for row in expected[:2]]
    np.testing.assert_allclose([answer["probabilities"] for answer in answers], expected[:2], atol=1e-5)
    refused = subprocess.run(
        [*command, '--inputs={"text": "one"}'], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: --inputs must be an object of lists by input name")


def _export(*flags):
    command = [sys.executable, "-m", "serving.export", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def workdir(run, model, tokenizer, tmp_path_factory):
    from kerasllm.training.checkpoints import CheckpointFolder

    workdir = tmp_path_factory.mktemp("workdir")
    (workdir / "run.yaml").write_text(dump_run(run))
    tokenizer.save(workdir / "tokenizer")
    CheckpointFolder(workdir / "checkpoints").save(7, model, None, run, {"accuracy": 0.75})
    return workdir


@pytest.mark.slow
def test_the_program_exports_a_workdir(workdir, exports, tmp_path):
    finished = _export(
        f"--workdir={workdir}", f"--base_path={tmp_path / 'exports'}", "--name=sentiment", "--measure_batching"
    )
    version = tmp_path / "exports" / "sentiment" / "1"
    assert finished.stdout == f"Exported step 7 of {workdir} to {version}\n", finished.stderr
    assert json.loads((version / "assets.extra" / "export.json").read_text())["metrics"] == {"accuracy": 0.75}
    sizes = [
        sum(path.stat().st_size for path in (folder / "variables").iterdir())
        for folder in (version, exports / "sentiment" / "1")
    ]
    assert sizes[0] == sizes[1]
    assert "max_execution_batch_size { value: " in (version / "batching_params.pbtxt").read_text()
    assert "## Latency" in (version / "assets.extra" / "README.md").read_text()
    checked = _export(f"--check={version}")
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.splitlines()[-1] == f"{version}: a stock TensorFlow Serving runs it"


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--bfloat16_weights", "--bfloat16_compute"])
def test_the_program_stores_weights_as_bfloat16_and_tells_what_that_changes(workdir, exports, tmp_path, flag):
    refused = _export(f"--workdir={workdir}", "--name=sentiment", flag)
    assert "--bfloat16_weights needs --evaluation FILE" in refused.stderr
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS[:4]) + "\n")
    flags = [f"--base_path={tmp_path}", "--name=sentiment", flag, f"--evaluation={tmp_path}/texts.txt"]
    finished = _export(f"--workdir={workdir}", *flags)
    assert finished.returncode == 0, finished.stderr
    told = finished.stdout.splitlines()[0]
    assert told.startswith("label: bfloat16 changes ")
    assert " of 4 labels, a probability by " in told
    sizes = [
        sum(path.stat().st_size for path in (folder / "variables").glob("*.data*"))
        for folder in (tmp_path / "sentiment" / "1", exports / "sentiment" / "1")
    ]
    assert sizes[0] < 0.75 * sizes[1]  # a small model: norms and bookkeeping are a large share of it


def test_the_program_wants_a_run_or_a_folder_to_check(tmp_path):
    for flags, message in (([], "give --workdir and --name"), ([f"--check={tmp_path}"], "holds no saved_model.pb")):
        finished = _export(*flags)
        assert finished.returncode == 1
        assert message in finished.stderr
        assert finished.stderr.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (None, "cannot read the configuration"),
        ({"objective": {"task": "bert_pretraining"}}, "holds a run of bert_pretraining"),
        (
            {"objective": {"task": "text_classification"}, "data": {"second_text_column": "other"}},
            "holds a classifier of text pairs",
        ),
    ],
)
def test_the_program_refuses_other_workdirs(tmp_path, tree, message):
    if tree is not None:
        (tmp_path / "run.yaml").write_text(dump_run(make_run(tree)))
    finished = _export(f"--workdir={tmp_path}", "--name=sentiment")
    assert finished.returncode == 1
    assert finished.stderr.startswith("error: ")
    assert message in finished.stderr
    assert len(finished.stderr.splitlines()) == 1
