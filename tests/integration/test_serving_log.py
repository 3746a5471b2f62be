"""Does the log tell every seed, and no word of any prompt, whichever way a request comes in and however it ends?"""

import http.client
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import openai
import pytest

from kerasllm.errors import ServingError
from serving.clients import PredictClient, Sampling, generate, generate_without, stream, stream_by_calls
from tests.integration.gpt_service import NAME, gpt_service, make_signatures, save_gpt

ROOT = Path(__file__).parents[2]
SECRET = "Zyxwvut"
LONG = f"{SECRET} " * 40  # has no room in the model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = tmp_path_factory.mktemp("exports") / NAME
    save_gpt(make_signatures(), base / "1")
    return base


def ask_over_grpc(address):
    """Requests that succeed and requests that are refused; the seeds of those that have some."""
    with PredictClient(address, NAME, deadline_s=60) as client:
        generate(client, [SECRET], Sampling(2, 1.0, seed=7001))
        generate_without(client, [SECRET], [SECRET], Sampling(2, 1.0, seed=7002))
        list(stream(client, SECRET, Sampling(2, 1.0, seed=7003)))
        list(stream_by_calls(client, SECRET, Sampling(2, 1.0, seed=7004)))
        with pytest.raises(ServingError):
            generate(client, [LONG], Sampling(2, 1.0, seed=7005))
        with pytest.raises(ServingError):
            list(stream(client, LONG, Sampling(2, 1.0, seed=7006)))
        with pytest.raises(ServingError):
            client.predict({"prompt": [SECRET], "mood": [SECRET]})
        with pytest.raises(ServingError):
            client.predict({"prompt": [SECRET]}, signature=SECRET)
    from tensorflow_serving.apis import classification_pb2, prediction_service_pb2_grpc

    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = NAME
    request.input.example_list.examples.add().features.feature["prompt"].bytes_list.value.append(SECRET.encode())
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError):
        prediction_service_pb2_grpc.PredictionServiceStub(channel).Classify(request, timeout=60)
    return [7001, 7002, 7003, 7004, 7005, 7006]


def ask_over_http(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    settings = {"max_new_tokens": 2, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0}
    bodies = [
        {"instances": [{"prompt": prompt, "seed": seed, "stop": [""], **settings}]}
        for prompt, seed in ((SECRET, 8001), (LONG, 8002))
    ]
    for method in ("predict", "stream"):
        for body in (
            *map(json.dumps, bodies),
            json.dumps({"instances": [{"prompt": SECRET, "mood": 1}]}),
            f'{{"{SECRET}',
        ):
            connection.request("POST", f"/v1/models/{NAME}:{method}", body)
            connection.getresponse().read()
    connection.close()
    return [8001, 8002]


def ask_by_openai(port):
    with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="any", max_retries=0) as ai:
        message = [{"role": "user", "content": SECRET}]
        asked = {"model": NAME, "max_tokens": 2}
        ai.completions.create(prompt=SECRET, seed=9001, **asked)
        list(ai.completions.create(prompt=SECRET, seed=9002, stream=True, **asked))
        ai.chat.completions.create(messages=message, seed=9003, **asked)
        list(ai.chat.completions.create(messages=message, seed=9004, stream=True, **asked))
        for refused in ({"prompt": LONG, "seed": 9005}, {"prompt": SECRET, "echo": True}, {"prompt": [SECRET, 1]}):
            for is_streamed in (False, True):
                with pytest.raises(openai.BadRequestError):
                    ai.completions.create(**asked, **refused, stream=is_streamed)
    return [9001, 9002, 9003, 9004, 9005]


@pytest.mark.slow
@pytest.mark.parametrize("batching", ["--noenable_batching", "--enable_batching"])
def test_the_log_of_a_server_tells_every_seed_and_no_prompt(folder, batching, tmp_path):
    flags = ["--port=0", "--rest_api_port=-1", "--rest_api_stream", "--openai_api", f"--model_name={NAME}", batching]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"}  # what TensorFlow says of failed operations too
    command = [sys.executable, "-m", "serving.server", *flags, f"--model_base_path={folder}"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        grpc_line, rest_line = (process.stdout.readline() for _ in range(2))
        rest_port = int(rest_line.split()[3].rpartition(":")[2])
        seeds = [*ask_over_grpc(grpc_line.split()[4]), *ask_over_http(rest_port), *ask_by_openai(rest_port)]
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        output, _ = process.communicate()
    written = output + (tmp_path / "log").read_text()
    assert [seed for seed in seeds if str(seed) not in written] == []
    assert SECRET not in written


def test_prompts_are_logged_when_that_is_asked_for(folder, caplog):
    with gpt_service({NAME: folder}, logs_prompts=True) as service, caplog.at_level(logging.INFO, logger="absl"):
        ask_by_openai(service.rest_port)
    assert SECRET in caplog.text


def test_of_many_rows_the_first_and_the_last_seeds_are_told(folder, caplog):
    inputs = {"prompt": [b"a"] * 100, "max_new_tokens": np.ones(100, np.int32), "seed": np.arange(100)}
    with gpt_service({NAME: folder}) as service, caplog.at_level(logging.INFO, logger="absl"):
        client = PredictClient(f"127.0.0.1:{service.port}", NAME, deadline_s=60)
        list(client.predict_stream(inputs))
        client.close()
    assert f"model '{NAME}', signature 'prefill': seed [ 0  1  2 ... 97 98 99]" in caplog.text
