"""Does a client hear of it when a stream fails for a reason that the server does not know?"""

import http.client
import json

import openai
import pytest

from kerasllm.errors import ServingError
from serving.clients import PredictClient
from tests.integration.gpt_service import gpt_service
from tests.integration.waiting import eventually

OUR_FAULT = "The server failed on this request; its log says why."


def write_odd(directory):
    """A model whose texts are numbers, and with an output of a type that no message holds."""
    import tensorflow as tf

    def begin(prompt, **_):
        rows = tf.shape(prompt)[0]
        numbers = {name: tf.ones([rows], tf.int32) for name in ("num_tokens", "num_prompt_tokens")}
        return {
            **numbers,
            "text": tf.zeros([rows]),
            "odd": tf.cast(tf.zeros([rows]), tf.dtypes.experimental.float8_e5m2),
            "finish_reason": tf.fill([rows], ""),
            "is_done": tf.ones([rows], tf.bool),
        }

    def go_on(steps, is_done):
        return begin(is_done)

    kinds = {"prompt": tf.string, "max_new_tokens": tf.int32, "temperature": tf.float32, "top_p": tf.float32}
    specs = {name: tf.TensorSpec([None], kind) for name, kind in {**kinds, "seed": tf.int64}.items()}
    specs["stop"] = tf.TensorSpec([None, None], tf.string)
    first = tf.function(begin, autograph=False).get_concrete_function(**specs)
    following = tf.function(go_on, autograph=False).get_concrete_function(
        steps=tf.TensorSpec([None], tf.int32), is_done=tf.TensorSpec([None], tf.bool)
    )
    tf.saved_model.save(tf.Module(), str(directory), {"all": first, "begin": first, "go_on": following})
    contract = {
        "format_version": 1,
        "whole": "all",
        "first": "begin",
        "next": "go_on",
        "carried": ["is_done"],
        "done": "is_done",
        "chunk": "steps",
        "defaults": {"max_new_tokens": 1, "temperature": 0.0, "top_p": 1.0, "seed": 0, "stop": [""]},
    }
    (directory / "assets.extra").mkdir()
    (directory / "assets.extra" / "streaming.json").write_text(json.dumps(contract))


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    base = tmp_path_factory.mktemp("exports") / "odd"
    write_odd(base / "1")
    with gpt_service({"odd": base}) as running:
        yield running


def is_let_go(service):
    return service.counted("streams_open") == 0 and not service.models.is_busy()


def failures(service):
    """How many HTTP requests have ended with INTERNAL; none has with another status."""
    text = service.metrics.page().decode()
    assert 'request_latency_count{model_name="odd"' not in text
    prefix = ':kerasllm:serving:error_latency_count{model_name="odd",API="'
    lines = [line for line in text.splitlines() if line.startswith(prefix) and 'entrypoint="REST"' in line]
    assert all('status="INTERNAL"' in line for line in lines)
    return sum(int(line.rpartition(" ")[2]) for line in lines)


def test_by_grpc_it_is_the_status(service):
    client = PredictClient(f"127.0.0.1:{service.port}", "odd", deadline_s=60)
    with client, pytest.raises(ServingError, match=f"INTERNAL: {OUR_FAULT}"):
        list(client.predict_stream({"prompt": [b"a"]}))
    assert is_let_go(service)


def test_over_http_it_is_the_last_event(service, caplog):
    connection = http.client.HTTPConnection("127.0.0.1", service.rest_port, timeout=60)
    connection.request("POST", "/v1/models/odd:stream", '{"instances": ["a"]}')
    response = connection.getresponse()
    assert response.read().decode().split("\n")[:2] == ["event: error", f'data: {{ "error": "{OUR_FAULT}" }}']
    connection.close()
    assert is_let_go(service)
    eventually(lambda: failures(service) == 1)  # it is counted once the answer has been sent
    assert "A request failed for a reason that the server does not know." in caplog.text


def test_in_the_openai_protocol_it_is_an_error_of_the_server(service):
    with openai.OpenAI(base_url=f"http://127.0.0.1:{service.rest_port}/v1", api_key="any", max_retries=0) as ai:
        with pytest.raises(openai.APIError, match=OUR_FAULT) as caught:
            list(ai.completions.create(model="odd", prompt="a", stream=True))
        assert caught.value.type == "server_error"
        with pytest.raises(openai.InternalServerError, match=OUR_FAULT):
            ai.completions.create(model="odd", prompt="a")
    assert is_let_go(service)
    eventually(lambda: failures(service) == 3)
