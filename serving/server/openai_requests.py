"""What does a client of the OpenAI protocol ask for? A body to prompts and settings, or a refusal that tells why."""

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from serving.server.declarations import ChatTemplate

MAX_CHOICES = 128  # prompts x n of a request
_MAX_STOPS = 16
_INT32, _INT64 = 2**31 - 1, 2**63 - 1
_LEAST_TOP_P = 1e-6
# Fields that change nothing here with these values, and are refused with others.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "prediction": (),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
}
# Fields that never change a text.
_UNUSED = ("metadata", "parallel_tool_calls", "prompt_cache_key", "safety_identifier", "service_tier", "store", "user")


class RequestRefused(Exception):
    """A request that this endpoint cannot answer; `param` names the field."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message, self.param, self.code = message, param, code


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _StreamOptions(_Strict):
    include_usage: bool = False
    include_obfuscation: bool = False  # no padding against an observer is made


class _Body(_Strict):
    """What completions and chats share."""

    model: str
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, ge=0, le=1)
    top_k: int = Field(0, ge=0, le=_INT32)
    repetition_penalty: float = Field(1.0, gt=0, le=100)
    n: int = Field(1, ge=1, le=MAX_CHOICES)
    seed: int | None = Field(None, ge=-_INT64 - 1, le=_INT64)
    stop: Annotated[list[str], BeforeValidator(_listed)] = Field([], max_length=_MAX_STOPS)
    stream: bool = False
    stream_options: _StreamOptions | None = None


class _CompletionBody(_Body):
    prompt: Annotated[list[str], BeforeValidator(_listed)] = Field(min_length=1, max_length=MAX_CHOICES)
    max_tokens: int = Field(16, ge=1, le=_INT32)


class _TextPart(_Strict):
    type: Literal["text"]
    text: str


class _Message(_Strict):
    role: str
    content: str | list[_TextPart]
    name: str | None = None  # of a speaker; the template has no place for it
    annotations: list[Any] = []  # of a reply that is sent back as it came; they are not part of the text
    tool_calls: list[Any] = Field([], max_length=0)  # there are none here, and a reply may say so

    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class _ChatBody(_Body):
    messages: list[_Message] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1, le=_INT32)
    max_completion_tokens: int | None = Field(None, ge=1, le=_INT32)


@dataclass(frozen=True)
class Asked:
    """A request, as far as it does not depend on the model.

    Attributes:
      turns: (role, text) of a chat; None: `prompts` are continued as they are.
      settings: one value of each setting for all rows.
      seed: None: any.
    """

    model: str
    prompts: tuple[str, ...]
    turns: tuple[tuple[str, str], ...] | None
    settings: dict[str, Any]
    stop: tuple[str, ...]
    seed: int | None
    n: int
    is_streamed: bool
    tells_usage: bool

    @property
    def is_chat(self) -> bool:
        """Whether turns of a chat are answered."""
        return self.turns is not None

    def prompts_by(self, template: ChatTemplate) -> tuple[str, ...]:
        """The prompts; of a chat as the model's template writes it.

        Raises:
          RequestRefused: the template has no such role.
        """
        if self.turns is None:
            return self.prompts
        try:
            return (template.prompt(self.turns),)
        except KeyError as error:
            known = ", ".join(sorted(template.roles))
            raise RequestRefused(f"this model has no role {error}; it has {known}.", "messages") from None


def read_completion(body: bytes) -> Asked:
    """The request of /v1/completions.

    Raises:
      RequestRefused: it is none, or asks for what is not offered.
    """
    given = _validated(_CompletionBody, body)
    return _asked(given, tuple(given.prompt), None, given.max_tokens)


def read_chat(body: bytes) -> Asked:
    """The request of /v1/chat/completions; "developer" is another name of the role "system".

    Raises:
      RequestRefused: as `read_completion`.
    """
    given = _validated(_ChatBody, body)
    turns = tuple(("system" if one.role == "developer" else one.role, one.text()) for one in given.messages)
    for role, _ in turns:
        if not role.isidentifier():
            raise RequestRefused("a role is one word, such as user, assistant or system.", "messages")
    return _asked(given, (), turns, given.max_completion_tokens or given.max_tokens or _INT32)


def _asked(
    given: _Body, prompts: tuple[str, ...], turns: tuple[tuple[str, str], ...] | None, max_new_tokens: int
) -> Asked:
    if len(prompts) * given.n > MAX_CHOICES:
        raise RequestRefused(f"{len(prompts)} prompts x n={given.n} are more than {MAX_CHOICES} choices.", "n")
    settings = {
        "max_new_tokens": max_new_tokens,
        "temperature": given.temperature,
        "top_p": max(given.top_p, _LEAST_TOP_P),
        "top_k": given.top_k,
        "repetition_penalty": given.repetition_penalty,
    }
    tells_usage = given.stream_options is not None and given.stream_options.include_usage
    stop = tuple(filter(None, given.stop))
    return Asked(given.model, prompts, turns, settings, stop, given.seed, given.n, given.stream, tells_usage)


def _validated(kind: Any, body: bytes) -> Any:
    try:
        document = json.loads(body)
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise RequestRefused("a text has half of a surrogate pair, which is no character.") from None
    except (ValueError, RecursionError) as error:
        raise RequestRefused(f"the body is no JSON that can be read: {error}") from None
    if not isinstance(document, dict):
        raise RequestRefused("the body has to be a JSON object.")
    given = {name: value for name, value in _without_nulls(document).items() if name not in _UNUSED}
    for name, neutral in _NEUTRAL.items():
        if name in given and not _is_any_of(given.pop(name), neutral):
            raise RequestRefused(f"{name} is not offered by this server. Leave it out.", name, "unsupported_parameter")
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        told = f"{place}: {first['msg']}."
        if first["type"] == "extra_forbidden":
            told = f"{place} is not known to this server. Leave it out."
        raise RequestRefused(told, str(first["loc"][0]) if first["loc"] else None) from None


def _is_any_of(value: Any, others: tuple[Any, ...]) -> bool:
    """Whether a value is one of the others; true is not 1 here."""
    return any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in others)


def _without_nulls(value: Any) -> Any:
    """A field that is null is one that is left out."""
    if isinstance(value, dict):
        return {name: _without_nulls(one) for name, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value
