"""Do clients reach their servers by TLS, come again where nobody was there yet, and stay light? Real servers."""

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

from kerasllm.errors import ConfigError, DeadlineExceeded, InvalidRequest, ServerUnavailable, ServingError
from serving.clients import PredictClient, Retries, Tls, recommend, reply, score_items
from tests.integration.certificates import write_certificates
from tests.integration.processes import free_addresses
from tests.integration.small_models import write_half_plus_two

ROOT = Path(__file__).parents[2]
X = {"x": np.float32([2.0])}
PATIENT = Retries(max_attempts=200, first_pause_s=0.05, longest_pause_s=0.2)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The models of all servers here: one that adds, one with the signatures of assistant and recommender."""
    from serving.server.versions import LoadPolicy, ModelConfig, Models

    base = tmp_path_factory.mktemp("models")
    write_half_plus_two(base / "half" / "1")
    _write_applications(base / "applications" / "1")
    configs = [ModelConfig(name, base / name) for name in ("half", "applications")]
    found = Models(configs, policy=LoadPolicy(rest_seconds=0))
    found.start(0)
    yield found
    found.close()


def _write_applications(directory):
    """Signatures in the form of kerasllm.export.assistant and recommender, with answers that tell what came in."""
    import tensorflow as tf

    def say(question, context):
        rows = tf.shape(question)[0]
        words = {name: tf.fill([rows], name) for name in ("action", "reason", "matched_reply", "matched_question")}
        words |= {name: tf.fill([rows], name) for name in ("missing_slot", "intent", "source")}
        numbers = {name: tf.fill([rows], 0.5) for name in ("score", "similarity", "intent_score")}
        listed = {"candidates": tf.fill([rows, 2], "候选"), "candidate_scores": tf.fill([rows, 2], 0.25)}
        said = tf.strings.join([context, question], "|")
        return {"reply": said, "out_of_scope": tf.fill([rows], True), **words, **numbers, **listed}

    def recommend_items(history, blocked):
        items = tf.stack([history, blocked, tf.fill(tf.shape(history), "")], axis=1)  # the last place is empty
        return {"items": items, "titles": items, "reasons": items, "scores": tf.where(items == "", -1e9, 1.5)}

    def score(history, candidates):
        ids = tf.strings.split(candidates, ",").to_tensor("")
        return {"scores": tf.where(tf.strings.regex_full_match(ids, "i[0-9]+"), 2.5, -1e9)}

    text = tf.TensorSpec([None], tf.string)
    signatures = {
        "reply": tf.function(say).get_concrete_function(question=text, context=text),
        "recommend": tf.function(recommend_items).get_concrete_function(history=text, blocked=text),
        "score": tf.function(score).get_concrete_function(history=text, candidates=text),
    }
    tf.saved_model.save(tf.Module(), str(directory), signatures)


@pytest.fixture
def serve(models):
    """Starts servers of the models, and stops them at the end."""
    from serving.server.core import ServerCore
    from serving.server.services import start_server

    servers = []

    def start(port=0, transport=None):
        server, port = start_server(ServerCore(models), "127.0.0.1", port, 2, transport)
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(None).wait()


@pytest.fixture
def refuse():
    """Starts servers that refuse so many calls with a code, and then answer with nothing in it; counts the calls."""
    servers = []

    class Refusing(grpc.GenericRpcHandler):
        def __init__(self, code, times):
            self.code, self.times, self.calls = code, times, 0

        def service(self, call_details):
            def answer(_, context):
                self.calls += 1
                if self.calls <= self.times:
                    context.abort(self.code, "not now")
                return b""

            return grpc.unary_unary_rpc_method_handler(answer)

    def start(code, times):
        server = grpc.server(ThreadPoolExecutor(1))
        handler = Refusing(code, times)
        server.add_generic_rpc_handlers([handler])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}", handler

    yield start
    for server in servers:
        server.stop(None).wait()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return write_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def secured(serve, certificates, tmp_path):
    """Starts a server with an ssl.config that the script of serving/tf_serving has written."""
    from serving.server.transport import Transport, read_ssl_config

    def start(*more):
        script, path = ROOT / "serving" / "tf_serving" / "write_ssl_config", tmp_path / "ssl.config"
        files = [certificates / name for name in ("server.key", "server.pem", *more)]
        subprocess.run([script, path, *files], check=True)
        assert path.stat().st_mode & 0o077 == 0  # the key is nobody else's
        return serve(transport=Transport(credentials=read_ssl_config(str(path)).credentials()))

    return start


# Getting there


def test_a_client_waits_for_a_server_that_comes_up_late(serve):
    [address] = free_addresses(1)
    answers = []
    with PredictClient(address, "half", deadline_s=60, retries=PATIENT) as client:
        thread = threading.Thread(target=lambda: answers.append(client.predict(X)["y"].tolist()))
        thread.start()
        thread.join(1.0)
        assert thread.is_alive()
        serve(int(address.split(":")[1]))
        thread.join()
    assert answers == [[3.0]]


def test_only_unavailable_is_tried_again(refuse):
    address, handler = refuse(grpc.StatusCode.UNAVAILABLE, 2)
    with PredictClient(address, "m") as client:
        assert client.predict(X) == {}
    assert handler.calls == 3
    for code, error in (
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ServerUnavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceeded),
        (grpc.StatusCode.INTERNAL, ServingError),
    ):
        address, handler = refuse(code, 1)
        with PredictClient(address, "m") as client, pytest.raises(error, match="not now"):
            client.predict(X)
        assert handler.calls == 1


def test_attempts_end_with_their_number_or_with_the_deadline(refuse):
    address, handler = refuse(grpc.StatusCode.UNAVAILABLE, 1000)
    with PredictClient(address, "m", retries=Retries(3, 0.01)) as client, pytest.raises(ServerUnavailable):
        client.predict(X)
    assert handler.calls == 3
    with PredictClient(address, "m", 0.3, retries=PATIENT) as client, pytest.raises(ServingError):
        client.predict(X)
    assert handler.calls < 3 + PATIENT.max_attempts


def test_pauses_double_up_to_the_longest_and_vary_by_half():
    pauses = list(Retries(max_attempts=6, first_pause_s=1.0, longest_pause_s=4.0).pauses())
    assert [length / 2 <= pause <= length for pause, length in zip(pauses, [1, 2, 4, 4, 4], strict=True)] == [True] * 5
    assert list(Retries(max_attempts=1).pauses()) == []


# TLS


def test_a_client_that_knows_the_authority_is_answered_and_another_is_not(secured, certificates):
    address = secured()
    once = Retries(1)
    with PredictClient(address, "half", tls=Tls(certificates / "ca.pem")) as client:
        assert client.predict(X)["y"] == [3.0]
    for tls in (None, Tls(), Tls(certificates / "ca.pem", server_name="other.example")):
        with PredictClient(address, "half", tls=tls, retries=once) as client, pytest.raises(ServerUnavailable):
            client.predict(X)


def test_a_server_that_wants_certificates_answers_clients_that_have_one(secured, certificates):
    address = secured("ca.pem")
    own = Tls(certificates / "ca.pem", certificates / "client.key", certificates / "client.pem")
    with PredictClient(address, "half", tls=own) as client:
        assert client.predict(X)["y"] == [3.0]
    tls = Tls(certificates / "ca.pem")
    with PredictClient(address, "half", tls=tls, retries=Retries(1)) as client, pytest.raises(ServerUnavailable):
        client.predict(X)
    flags = [f"--server={address}", "--model=half", '--inputs={"x": [2.0]}', f"--tls_authority={own.authority}"]
    flags += [f"--tls_key={own.key}", f"--tls_certificate={own.certificate}"]
    command = [sys.executable, "-m", "serving.clients.cli", *flags]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert json.loads(finished.stdout) == {"y": 3.0}, finished.stderr


def test_a_key_without_its_certificate_and_a_file_that_is_not_there_are_refused(certificates):
    with pytest.raises(ConfigError, match="go together"):
        PredictClient("127.0.0.1:1", "m", tls=Tls(key=certificates / "client.key"))
    with pytest.raises(ConfigError, match="nowhere.pem: cannot read the certificate"):
        PredictClient("127.0.0.1:1", "m", tls=Tls(certificates / "nowhere.pem"))


# Typed calls


def test_a_reply_has_its_reasons_in_pythons_own_values(serve):
    with PredictClient(serve(), "applications") as client:
        answer = reply(client, "你好?", "customer: hi")
    assert (answer.reply, answer.action, answer.out_of_scope) == ("customer: hi|你好?", "action", True)
    assert (answer.score, answer.candidates, answer.candidate_scores) == (0.5, ["候选", "候选"], [0.25, 0.25])


def test_a_chat_sends_its_turns_as_context_and_an_empty_line_begins_anew(serve):
    from apps.customer_service import chat

    with PredictClient(serve(), "applications") as client:
        said = [(answer["reply"], answer) for _, answer in chat.converse(client, ["one", "two", "", "three"])]
    assert [text for text, _ in said] == ["|one", "customer: one\nassistant: |one|two", "|three"]
    answer = said[0][1]
    assert set(chat.SHOWN) <= answer.keys()
    assert chat.described(answer).startswith("action: reason; intent intent 0.50; match 0.50 by 'matched_question'")


def test_lists_end_where_no_item_is_left_and_unknown_items_have_no_score(serve):
    with PredictClient(serve(), "applications") as client:
        lists = recommend(client, [["i1", ("i2", 4.5)], []], [[], ["horror", "news"]])
        assert [[place.item for place in places] for places in lists] == [["i1,i2:4.5"], ["horror,news"]]
        assert (lists[0][0].score, lists[0][0].reason) == (1.5, "i1,i2:4.5")
        assert score_items(client, [["i1"], []], [["i3", "x"], ["i4"]]) == [{"i3": 2.5, "x": None}, {"i4": 2.5}]
        assert recommend(client, []) == score_items(client, [], []) == []
        with pytest.raises(InvalidRequest, match="'a:b' cannot be sent in a history"):
            recommend(client, [["a:b"]])
        with pytest.raises(InvalidRequest, match="'a,b' cannot be sent in a list"):
            score_items(client, [["a"]], [["a,b"]])


# Lightness


def test_an_answer_needs_no_tensorflow(serve):
    """How long it takes and how much memory: benchmarks/client_start.py."""
    code = (
        "import sys\n"
        "from serving.clients import PredictClient\n"
        f"with PredictClient('{serve()}', 'half') as client:\n"
        "    answer = client.predict({'x': [2.0]})['y'].tolist()\n"
        "heavy = {'tensorflow', 'tensorflow_serving', 'keras'} & sys.modules.keys()\n"
        "print(answer, sorted(heavy))"
    )
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.stdout == "[3.0] []\n", finished.stderr
