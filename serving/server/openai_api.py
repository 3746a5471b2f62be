"""What does each path of the OpenAI protocol answer? Completions, chats and models, on top of streams."""

import json
import re
import secrets
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from typing import Any

import numpy as np
from absl import logging
from tensorflow_serving.apis import model_pb2, predict_pb2

from serving.server import openai_answers, tensors
from serving.server.declarations import ChatTemplate
from serving.server.events import HEADERS, Events, Last, event
from serving.server.openai_answers import Heading
from serving.server.openai_requests import Asked, RequestRefused, read_chat, read_completion
from serving.server.openai_texts import Texts
from serving.server.rest import RestAnswer
from serving.server.status import Code, StatusError, as_status
from serving.server.streams import Part, SecondsLeft, Streams

_INPUTS = frozenset({"prompt", "max_new_tokens", "temperature", "top_p", "seed", "stop"})
_OUTPUTS = ("text", "num_tokens", "num_prompt_tokens", "finish_reason")
_READERS: dict[str, Callable[[bytes], Asked]] = {
    "/v1/completions": read_completion,
    "/v1/chat/completions": read_chat,
}
_MODELS = "/v1/models"
_ASSERTED = re.compile(r"assertion failed: \[(?P<sentence>[^]]*)\]")


class OpenAiApi:
    """The paths /v1/completions, /v1/chat/completions and /v1/models.

    Args:
      streams: of the models.
      model_names: of all models that are served.
      logs_prompts: prompts may stand in the log; without, only their number does.
    """

    def __init__(self, streams: Streams, model_names: Callable[[], list[str]], logs_prompts: bool = False) -> None:
        self._streams = streams
        self._model_names = model_names
        self._logs_prompts = logs_prompts

    def answers(self, http_method: str, path: str) -> bool:
        """Whether a path is one of the protocol."""
        return path in _READERS or (path == _MODELS and http_method == "GET")

    def answer(
        self, http_method: str, path: str, body: Callable[[], bytes], timeout_s: Callable[[], float | None]
    ) -> RestAnswer:
        """Answers a request; the arguments are those of RestApi.answer."""
        if path == _MODELS:
            return _ok(openai_answers.models([name for name in self._model_names() if self._makes_text(name)]))
        name = ""
        try:
            if http_method != "POST":
                raise RequestRefused(f"{http_method} {path}: send a POST request.")
            asked = _READERS[path](body())
            name = asked.model
            return self._made(asked, timeout_s)
        except RequestRefused as error:
            text = openai_answers.error(Code.INVALID_ARGUMENT, error.message, error.param, error.code)
            return _answer(Code.INVALID_ARGUMENT, text, name)
        except Exception as error:
            status = as_status(error)
            return _answer(status.code, _error(status), name)

    def _made(self, asked: Asked, timeout_s: SecondsLeft) -> RestAnswer:
        template, inputs = self._model(asked.model)
        seed = secrets.randbits(62) if asked.seed is None else asked.seed
        prompts = asked.prompts_by(template)
        heading_id = f"{'chatcmpl' if asked.is_chat else 'cmpl'}-{secrets.token_hex(12)}"
        logging.info("%s: model %r, %d prompts x %d, seed %d", heading_id, asked.model, len(prompts), asked.n, seed)
        if self._logs_prompts:
            logging.info("%s: prompts %s", heading_id, json.dumps(prompts, ensure_ascii=False))
        stops = asked.stop + (template.stops() if asked.is_chat else ())
        request = _request(asked, prompts, seed, stops, inputs)
        texts = Texts(asked.n, stops, template.reply if asked.is_chat else str)

        def heading(part: Part) -> Heading:
            return Heading(heading_id, int(time.time()), asked.model, part.version, asked.is_chat)

        if asked.is_streamed:
            limit = timeout_s()  # for each part
            parts = self._streams.parts(request, lambda: limit)
            first = next(parts)
            events = Events(_told(first, parts, heading(first), texts, asked.tells_usage))
            return RestAnswer(Code.OK, b"", asked.model, "openai", headers=HEADERS, events=events)
        part = self._streams.whole(request, timeout_s())
        choices = texts.new(part)
        return _answer(Code.OK, heading(part).whole(choices, texts.usage(part)), asked.model)

    def _model(self, name: str) -> tuple[ChatTemplate, frozenset[str]]:
        try:
            declared = self._streams.declared(model_pb2.ModelSpec(name=name))
        except StatusError as error:
            if error.code != Code.UNIMPLEMENTED:
                raise
            raise RequestRefused(error.message, "model") from error
        if not (declared.inputs >= _INPUTS and declared.outputs.issuperset(_OUTPUTS)):
            raise RequestRefused("This model makes no text: it has other inputs or outputs.", "model")
        return declared.chat, declared.inputs

    def _makes_text(self, name: str) -> bool:
        try:
            self._model(name)
        except (StatusError, RequestRefused):
            return False
        return True


def _request(
    asked: Asked, prompts: tuple[str, ...], seed: int, stops: tuple[str, ...], known: Iterable[str]
) -> predict_pb2.PredictRequest:
    """Rows of the first prompt's choices, then of the next one's; each choice has the seed after the one before."""
    rows = len(prompts) * asked.n
    values: dict[str, Any] = {
        "prompt": np.repeat(np.array([prompt.encode() for prompt in prompts], object), asked.n),
        "stop": np.array([[stop.encode() for stop in stops or ("",)]] * rows, object),
        "seed": np.tile(np.array([_wrapped(seed + number) for number in range(asked.n)]), len(prompts)),
    }
    request = predict_pb2.PredictRequest(output_filter=_OUTPUTS)
    request.model_spec.name = asked.model
    for name, value in asked.settings.items():
        if name in known:
            values[name] = np.full(rows, value, np.float32 if isinstance(value, float) else np.int32)
    for name, array in values.items():
        tensors.encode(array, request.inputs[name])
    return request


def _wrapped(number: int) -> int:
    """As a signed integer of 64 bits."""
    return (number + 2**63) % 2**64 - 2**63


def _told(
    first: Part, others: Generator[Part], heading: Heading, texts: Texts, tells_usage: bool
) -> Generator[bytes | Last]:
    """An event for each part that adds to a text; an error between them is one too, and the last."""
    with closing(others):
        try:
            part = first
            yield event(heading.piece(texts.new(part, all_of_them=True), tells_usage, is_first=True))
            for part in others:
                choices = texts.new(part)
                if choices:
                    yield event(heading.piece(choices, tells_usage))
            if tells_usage:
                yield event(heading.usage_piece(texts.usage(part)))
            yield Last(event("[DONE]"), Code.OK)
        except Exception as error:
            status = as_status(error)
            yield Last(event(_error(status)), status.code)


def _error(status: StatusError) -> str:
    """What a status says in the protocol's form, without the names of the graph's nodes around the model's words."""
    found = _ASSERTED.match(status.message)
    return openai_answers.error(status.code, found["sentence"] if found else status.message)


def _ok(text: str) -> RestAnswer:
    return _answer(Code.OK, text, "")


def _answer(code: Code, text: str, model_name: str) -> RestAnswer:
    return RestAnswer(code, text.encode(), model_name, "openai")
