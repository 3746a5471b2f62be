"""Does the embedded server stream what it says at once, stop when nobody listens, and join what runs together?"""

import dataclasses
import http.client
import json
import math
import threading
import time

import numpy as np
import pytest

from kerasllm.errors import DeadlineExceeded, InvalidRequest, ModelNotFound
from serving.clients import PredictClient, Sampling, generate, stream, stream_by_calls
from serving.clients.client import StreamingNotOffered
from tests.integration.gpt_service import MAX_LENGTH, NAME, gpt_service, make_signatures, save_gpt
from tests.integration.small_models import write_half_plus_two
from tests.integration.waiting import eventually

SAMPLING = Sampling(max_new_tokens=30, temperature=1.0, seed=3)
PROMPTS = ["the cat", "今天", "", "profit 😀"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("exports")
    save_gpt(make_signatures(), base / NAME / "1")
    write_half_plus_two(base / "half" / "1")
    return {NAME: base / NAME, "half": base / "half"}


@pytest.fixture(scope="module")
def service(folders):
    with gpt_service(folders) as running:
        yield running


@pytest.fixture(scope="module")
def joining(folders):
    with gpt_service(folders, max_batch_size=16) as running:
        yield running


@pytest.fixture(scope="module")
def client(service):
    with PredictClient(f"127.0.0.1:{service.port}", NAME, deadline_s=60) as asking:
        yield asking


def post(service, path, document, read=True):
    connection = http.client.HTTPConnection("127.0.0.1", service.rest_port, timeout=60)
    connection.request("POST", path, json.dumps(document))
    response = connection.getresponse()
    if not read:
        return connection, response
    body = response.read().decode()
    connection.close()
    return response.status, response.headers["Content-Type"], body


def events(body):
    return [json.loads(part.removeprefix("data: ")) for part in body.split("\n\n") if part]


# Over gRPC


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_stream_has_the_parts_that_calls_by_hand_have_and_ends_with_the_whole_text(client, prompt):
    parts = list(stream(client, prompt, SAMPLING, chunk_tokens=7))
    assert parts == list(stream_by_calls(client, prompt, SAMPLING, chunk_tokens=7))
    assert parts[-1] == generate(client, [prompt], SAMPLING)[0]
    assert len(parts) == 1 + math.ceil((parts[-1].num_tokens - 1) / 7)  # the first word, and the rest in sevens
    assert all(after.text.startswith(before.text) for before, after in zip(parts, parts[1:], strict=False))


def test_rows_of_one_stream_end_each_at_its_own_limit(client):
    inputs = {"prompt": [b"the cat", b"ABC"], "max_new_tokens": np.array([2, 12], np.int32)}
    *_, last = client.predict_stream(inputs)
    assert last["num_tokens"].tolist() == [2, 12]
    assert last["finish_reason"].tolist() == [b"length"] * 2


def test_what_is_left_out_has_the_declared_default_and_what_is_carried_stays_in_the_server(client):
    *_, last = client.predict_stream({"prompt": [b"the cat"]})
    assert last["num_tokens"].tolist() == [min(64, MAX_LENGTH - last["num_prompt_tokens"][0])]
    assert sorted(last) == ["finish_reason", "num_prompt_tokens", "num_tokens", "text"]


def test_a_cancelled_stream_computes_no_further_part_and_gives_its_version_back(service, client):
    before = service.counted("stream_parts")
    reading = client.predict_stream({"prompt": [b"the cat"], "chunk_tokens": np.array([1], np.int32)})
    next(reading)
    reading.close()
    eventually(lambda: service.counted("streams_open") == 0)
    ended_at = service.counted("stream_parts")
    assert 1 <= ended_at - before < 40  # of 44: the first words may have been on their way
    time.sleep(0.2)
    assert service.counted("stream_parts") == ended_at
    assert not service.models.is_busy()


def test_a_stream_past_its_deadline_ends_with_that_status(service):
    with PredictClient(f"127.0.0.1:{service.port}", NAME, deadline_s=0.0) as hasty, pytest.raises(DeadlineExceeded):
        list(hasty.predict_stream({"prompt": [b"the cat"]}))
    eventually(lambda: service.counted("streams_open") == 0)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"prompt": [b"the cat " * 40]}, "prompts may have 46 tokens"),
        ({"prompt": [b"a"], "chunk_tokens": np.array([0], np.int32)}, "chunk_tokens has to be one whole number"),
        ({"prompt": [b"a"], "chunk_tokens": np.array([1.5], np.float32)}, "chunk_tokens has to be one whole number"),
        ({"prompt": [b"a", b"b"], "seed": np.array([1], np.int64)}, "seed has 1 rows and others have 2"),
        ({"prompt": np.zeros([0], object)}, "Input prompt has 0 rows"),
        ({"prompt": [b"a"] * 1025}, "1 to 1024"),
        ({"prompt": [b"a"], "mood": [b"good"]}, "Sent extra: {mood}"),
        ({"temperature": np.array([1], np.float32)}, "Missing but required: {prompt}"),
        ({}, "Missing but required"),
    ],
)
def test_a_stream_that_cannot_begin_is_refused_with_a_sentence(client, inputs, message):
    with pytest.raises(InvalidRequest, match=message):
        list(client.predict_stream(inputs))


def test_a_model_that_declares_no_streaming_is_not_streamed_but_served(service):
    with PredictClient(f"127.0.0.1:{service.port}", "half") as half:
        with pytest.raises(StreamingNotOffered, match=r"has no assets.extra/streaming.json"):
            list(half.predict_stream({"x": np.array([1.0], np.float32)}))
        assert half.predict({"x": np.array([1.0], np.float32)})["y"].tolist() == [2.5]
    with PredictClient(f"127.0.0.1:{service.port}", "nobody") as nobody, pytest.raises(ModelNotFound):
        list(nobody.predict_stream({"prompt": [b"a"]}))


# Over HTTP


def test_events_over_http_hold_what_predict_would_answer(service, client):
    whole = generate(client, ["今天"], SAMPLING)[0]
    rows = {"instances": [{"prompt": "今天", "temperature": 1.0, "seed": 3, "max_new_tokens": 30}]}
    status, kind, body = post(service, f"/v1/models/{NAME}:stream", rows)
    assert (status, kind) == (200, "text/event-stream; charset=utf-8")
    parts = [event["predictions"][0] for event in events(body)]
    assert [parts[-1][name] for name in ("text", "num_tokens", "finish_reason")] == list(dataclasses.astuple(whole))
    assert [part["num_tokens"] for part in parts] == [*range(1, whole.num_tokens, 4), whole.num_tokens]
    columns = {"inputs": {"prompt": ["今天"], "temperature": [1.0], "seed": [3], "max_new_tokens": [30]}}
    *_, last = events(post(service, f"/v1/models/{NAME}/versions/1:stream", columns)[2])
    assert last["outputs"]["text"] == [whole.text]
    *_, plain = events(post(service, f"/v1/models/{NAME}:stream", {"instances": ["今天"]})[2])
    assert plain["predictions"][0]["num_tokens"] > 1


def test_an_http_stream_that_cannot_begin_has_a_code_of_its_own(service):
    status, kind, body = post(service, f"/v1/models/{NAME}:stream", {"instances": ["the cat " * 40]})
    assert (status, kind) == (400, "application/json")
    assert "prompts may have 46 tokens" in json.loads(body)["error"]
    assert post(service, "/v1/models/nobody:stream", {"instances": ["a"]})[0] == 404
    assert post(service, "/v1/models/half:stream", {"instances": [1.0]})[0] == 501
    assert post(service, f"/v1/models/{NAME}:stream", {"instances": []})[0] == 400


def test_an_http_client_that_leaves_ends_the_computing(service):
    before = service.counted("stream_parts")
    rows = {"instances": [{"prompt": "the cat", "chunk_tokens": 1}]}
    connection, response = post(service, f"/v1/models/{NAME}:stream", rows, read=False)
    assert response.readline().startswith(b"data: ")
    response.close()
    connection.close()
    eventually(lambda: service.counted("streams_open") == 0)
    assert service.counted("stream_parts") - before <= 44
    assert not service.models.is_busy()


# Joined


def test_streams_of_different_lengths_share_batches_and_say_what_they_say_alone(client, joining):
    alone = [generate(client, [prompt], SAMPLING)[0] for prompt in PROMPTS * 3]
    answers = [None] * len(alone)
    start = threading.Barrier(len(alone))

    def read(number):
        with PredictClient(f"127.0.0.1:{joining.port}", NAME, deadline_s=60) as own:
            sampling = Sampling(30 - number, 1.0, seed=3, stop=("nobody writes this",) if number % 2 else ())
            start.wait()
            *_, answers[number] = stream(own, (PROMPTS * 3)[number], sampling, chunk_tokens=1)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(len(alone))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, (own, other) in enumerate(zip(alone, answers, strict=True)):
        assert other.num_tokens == min(30 - number, own.num_tokens)
        assert own.text.startswith(other.text)
    assert max(map(len, joining.batches)) > 1
    assert joining.counted("streams_open") == 0


def test_what_one_stream_gets_wrong_does_not_end_its_neighbours(joining):
    outcomes = []
    start = threading.Barrier(8)

    def read(number):
        with PredictClient(f"127.0.0.1:{joining.port}", NAME, deadline_s=60) as own:
            start.wait()
            try:
                *_, last = stream(own, "the cat", Sampling(5, temperature=-1.0 if number % 2 else 0.0))
                outcomes.append(last.num_tokens)
            except InvalidRequest as error:
                outcomes.append("temperature has to be" in str(error))

    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [True] * 4 + [5] * 4
