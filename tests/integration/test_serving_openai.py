"""Does a chat client's own library understand the server, streaming and refusals included?"""

import http.client
import json
import logging
import subprocess
import sys
from pathlib import Path

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.clients import PredictClient, Sampling, generate
from tests.integration.gpt_service import NAME, gpt_service, make_signatures, save_gpt
from tests.integration.small_models import write_half_plus_two

ROOT = Path(__file__).parents[2]
TEMPLATE = {
    "roles": {
        "system": {"prefix": "", "suffix": "\n"},
        "user": {"prefix": "Q ", "suffix": "\n"},
        "assistant": {"prefix": "A ", "suffix": "\n"},
    },
    "stop": ["\n"],
}


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    base = tmp_path_factory.mktemp("exports")
    signatures = make_signatures()
    save_gpt(signatures, base / NAME / "1")
    save_gpt(signatures, base / "chat" / "1", TEMPLATE)
    write_half_plus_two(base / "half" / "1")
    with gpt_service({name: base / name for name in (NAME, "chat", "half")}) as running:
        yield running


@pytest.fixture(scope="module")
def ai(service):
    with openai.OpenAI(base_url=f"http://127.0.0.1:{service.rest_port}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def direct(service):
    with PredictClient(f"127.0.0.1:{service.port}", NAME, deadline_s=60) as client:
        yield client


def post(service, path, body):
    connection = http.client.HTTPConnection("127.0.0.1", service.rest_port, timeout=60)
    try:
        connection.request("POST", path, body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_the_models_that_make_text_are_listed(ai):
    assert [model.id for model in ai.models.list()] == ["chat", NAME]


def test_a_completion_is_what_the_model_says_over_grpc_with_its_tokens_counted(ai, direct):
    answer = ai.completions.create(model=NAME, prompt="the cat", max_tokens=12, temperature=0)
    expected = generate(direct, ["the cat"], Sampling(12))[0]
    [choice] = answer.choices
    assert (choice.text, choice.finish_reason) == (expected.text, expected.finish_reason)
    assert answer.usage.completion_tokens == expected.num_tokens
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + expected.num_tokens
    assert answer.object == "text_completion"


def test_choices_have_seeds_that_follow_each_other_and_the_same_seed_the_same_text(ai, direct):
    asked = {"model": NAME, "prompt": ["the cat", "今天"], "max_tokens": 8, "n": 2, "seed": 5, "top_p": 0.9}
    answer = ai.completions.create(**asked)
    expected = [
        generate(direct, [prompt], Sampling(8, 1.0, top_p=0.9, seed=seed))[0].text
        for prompt in ("the cat", "今天")
        for seed in (5, 6)
    ]
    assert [choice.text for choice in answer.choices] == expected
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]


@pytest.mark.parametrize("stop", [None, "z", ["no such text", "9"]])
def test_the_pieces_of_a_stream_add_up_to_the_completion(ai, stop):
    asked = {"model": NAME, "prompt": ["今天", "ABC"], "max_tokens": 30, "n": 2, "seed": 3, "stop": stop}
    whole = ai.completions.create(**asked)
    texts, reasons, usage = [""] * 4, [None] * 4, None
    for piece in ai.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
        usage = piece.usage or usage
        for choice in piece.choices:
            assert reasons[choice.index] is None
            texts[choice.index] += choice.text
            reasons[choice.index] = choice.finish_reason
    assert texts == [choice.text for choice in whole.choices]
    assert reasons == [choice.finish_reason for choice in whole.choices]
    assert usage == whole.usage


def test_a_text_is_kept_back_while_it_may_become_a_stop_string():
    from serving.server.openai_texts import without_beginning_of

    assert without_beginning_of("hello wo", ["world", "xyz"]) == "hello "
    assert without_beginning_of("hello wo", ["low"]) == "hello wo"
    assert without_beginning_of("a\n\n", ["\n\n\n"]) == "a"
    assert without_beginning_of("a", []) == "a"


def test_a_stream_ends_with_the_word_that_clients_wait_for(service):
    body = json.dumps({"model": NAME, "prompt": "a", "max_tokens": 2, "stream": True})
    status, answer = post(service, "/v1/completions", body)
    assert status == 200
    assert answer.endswith(b"data: [DONE]\n\n")


def test_a_chat_is_written_by_the_model_s_template_and_ends_where_it_says(ai, direct):
    messages = [{"role": "developer", "content": "the"}, {"role": "user", "content": "cat"}]
    asked = {"model": "chat", "messages": messages, "max_tokens": 20, "seed": 4}
    answer = ai.chat.completions.create(**asked)
    expected = generate(direct, ["the\nQ cat\nA "], Sampling(20, 1.0, seed=4, stop=("\n",)))[0]
    [choice] = answer.choices
    assert (choice.message.content, choice.finish_reason) == (expected.text, expected.finish_reason)
    assert choice.message.role == "assistant"
    pieces = list(ai.chat.completions.create(**asked, stream=True))
    assert pieces[0].choices[0].delta.role == "assistant"
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == expected.text
    assert pieces[-1].choices[0].finish_reason == expected.finish_reason


def test_a_reply_can_be_sent_back_as_the_library_gave_it_for_the_next_turn(service, ai, direct):
    turns = [{"role": "user", "content": "the cat"}]
    asked = {"model": "chat", "max_completion_tokens": 3, "temperature": 0, "user": "me", "presence_penalty": 0.0}
    first = ai.chat.completions.create(messages=turns, logprobs=False, tools=[], **asked).choices[0].message
    second = ai.chat.completions.create(messages=[*turns, first, *turns], **asked).choices[0].message
    prompt = f"Q the cat\nA {first.content}\nQ the cat\nA "
    assert second.content == generate(direct, [prompt], Sampling(3, stop=("\n",)))[0].text
    other = {"role": "assistant", "content": first.content, "annotations": [], "tool_calls": [], "refusal": None}
    body = {**asked, "messages": [*turns, other, *turns]}  # as a reply of another service looks
    status, answer = post(service, "/v1/chat/completions", json.dumps(body))
    assert status == 200
    assert json.loads(answer)["choices"][0]["message"]["content"] == second.content


def test_without_a_template_a_chat_is_plain_lines_and_the_reply_is_one(ai, direct):
    parts = [{"type": "text", "text": "the "}, {"type": "text", "text": "cat"}]
    answer = ai.chat.completions.create(model=NAME, messages=[{"role": "user", "content": parts}], temperature=0)
    expected = generate(direct, ["user: the cat\nassistant:"], Sampling(2**31 - 1, stop=("\n",)))[0]
    assert answer.choices[0].message.content == expected.text.lstrip(" ")
    assert "\n" not in answer.choices[0].message.content


@pytest.mark.parametrize(
    ("changes", "kind", "param", "message"),
    [
        ({"model": "nobody"}, openai.NotFoundError, "model", "Servable not found"),
        ({"model": "half"}, openai.BadRequestError, "model", "cannot be streamed"),
        ({"logprobs": 3}, openai.BadRequestError, "logprobs", "not offered"),
        ({"echo": True}, openai.BadRequestError, "echo", "not offered"),
        ({"max_tokens": 0}, openai.BadRequestError, "max_tokens", "greater than or equal to 1"),
        ({"temperature": 3}, openai.BadRequestError, "temperature", "less than or equal to 2"),
        ({"top_p": "much"}, openai.BadRequestError, "top_p", "valid number"),
        ({"n": 200}, openai.BadRequestError, "n", "less than or equal to 128"),
        ({"n": 100, "prompt": ["a", "b"]}, openai.BadRequestError, "n", "more than 128"),
        ({"prompt": [1, 2]}, openai.BadRequestError, "prompt", "valid string"),
        ({"prompt": []}, openai.BadRequestError, "prompt", "at least 1"),
        ({"prompt": "the cat " * 40}, openai.BadRequestError, None, "prompts may have 46 tokens"),
        (
            {"extra_body": {"mood": "good"}},
            openai.BadRequestError,
            "mood",
            "mood is not known to this server. Leave it out",
        ),
    ],
)
@pytest.mark.parametrize("is_streamed", [False, True])
def test_what_cannot_be_done_is_refused_as_the_library_expects(ai, changes, kind, param, message, is_streamed):
    asked = {"model": NAME, "prompt": "the cat", "max_tokens": 4, "stream": is_streamed, **changes}
    with pytest.raises(kind, match=message) as refusal:
        ai.completions.create(**asked)
    assert refusal.value.param == param
    assert refusal.value.type == "invalid_request_error"
    assert "node" not in str(refusal.value)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"a"', b'{"model": "\\ud800"}', b"\xff", b"[" * 100_000, b"9" * 5000]
)
def test_a_body_that_is_no_request_is_refused_in_the_protocol_s_form(service, body):
    for path in ("/v1/completions", "/v1/chat/completions"):
        status, answer = post(service, path, body)
        assert status == 400
        assert json.loads(answer)["error"]["message"]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = [
    "prompt",
    "messages",
    "max_tokens",
    "temperature",
    "top_p",
    "n",
    "stop",
    "seed",
    "stream",
    "logprobs",
    "tools",
]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(["completions", "chat/completions"]), fields=st.dictionaries(st.sampled_from(FIELDS), ANYTHING)
)
def test_any_100_bodies_are_answered_or_refused_but_never_fail(service, path, fields):
    body = json.dumps({"model": NAME, "max_tokens": 2, **fields}).encode()
    status, answer = post(service, f"/v1/{path}", body)
    assert status in (200, 400), answer
    assert status == 200 or json.loads(answer)["error"]["message"]


@pytest.mark.slow
def test_the_program_offers_it_by_a_flag_and_lets_a_stream_end_after_sigterm(service):
    base_path = service.folders[NAME]
    command = [sys.executable, "-m", "serving.server", "--port=0", "--rest_api_port=-1", "--openai_api"]
    command += [f"--model_name={NAME}", f"--model_base_path={base_path}"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        port = [process.stdout.readline() for _ in range(2)][1].split()[3].rpartition(":")[2]
        with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="any", max_retries=0) as client:
            pieces = client.completions.create(model=NAME, prompt="the cat", max_tokens=40, temperature=0, stream=True)
            text = next(pieces).choices[0].text
            process.terminate()
            text += "".join(piece.choices[0].text for piece in pieces)
            assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
    with PredictClient(f"127.0.0.1:{service.port}", NAME, deadline_s=60) as client:
        assert text == generate(client, ["the cat"], Sampling(40))[0].text


def test_without_a_port_for_it_the_flag_is_refused(tmp_path):
    command = [sys.executable, "-m", "serving.server", f"--model_base_path={tmp_path}", "--openai_api"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 255
    assert "--openai_api and --rest_api_stream need --rest_api_port" in done.stderr


def test_a_page_may_send_its_key_only_where_the_protocol_has_one(service):
    from serving.server.openai_api import OpenAiApi
    from serving.server.rest import RestApi
    from serving.server.rest_server import RestOptions, RestServer

    api = RestApi(service.core, others=[OpenAiApi(service.streams, service.core.model_names)])
    server = RestServer(api, "127.0.0.1", 0, RestOptions(allows_cross_origin=True))
    wanted = "authorization,content-type"
    for path, allowed in (
        ("/v1/chat/completions", wanted),
        ("/v1/models", wanted),
        ("/v1/models/m:predict", "Content-Type"),
    ):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("OPTIONS", path, headers={"Access-Control-Request-Headers": wanted})
        assert connection.getresponse().getheader("Access-Control-Allow-Headers") == allowed
        connection.close()
    server.close()


def test_seeds_are_logged_and_prompts_are_not(service, ai, caplog):
    with caplog.at_level(logging.INFO, logger="absl"):
        ai.completions.create(model=NAME, prompt="the cat", max_tokens=2, seed=12345)
        with pytest.raises(openai.BadRequestError):
            ai.completions.create(model=NAME, prompt="the cat " * 40, seed=12345)
    assert "seed 12345" in caplog.text
    assert "the cat" not in caplog.text
