"""How do texts look in the OpenAI protocol? Whole answers, pieces of a stream, models and errors, as JSON."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from serving.server.status import Code

_KINDS = {
    Code.INVALID_ARGUMENT: "invalid_request_error",
    Code.FAILED_PRECONDITION: "invalid_request_error",
    Code.OUT_OF_RANGE: "invalid_request_error",
    Code.NOT_FOUND: "invalid_request_error",
    Code.UNIMPLEMENTED: "invalid_request_error",
    Code.RESOURCE_EXHAUSTED: "rate_limit_error",
}


@dataclass(frozen=True)
class Choice:
    """One text: what is new of it, and why it ended ("" while it goes on)."""

    index: int
    text: str
    finish_reason: str


@dataclass(frozen=True)
class Usage:
    """Tokens that were read and made."""

    prompt: int
    completion: int

    def document(self) -> dict[str, int]:
        """As the protocol names them."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
        }


@dataclass(frozen=True)
class Heading:
    """What stands at the head of each answer to one request."""

    id: str
    created: int
    model: str
    version: int
    is_chat: bool

    def whole(self, choices: Sequence[Choice], usage: Usage) -> str:
        """The answer to a request that is not streamed."""
        kind = "chat.completion" if self.is_chat else "text_completion"
        return self._text(kind, [self._whole_choice(choice) for choice in choices], {"usage": usage.document()})

    def piece(self, choices: Sequence[Choice], tells_usage: bool, is_first: bool = False) -> str:
        """A piece of a stream: what is new of some texts."""
        extra = {"usage": None} if tells_usage else {}
        return self._text(self._piece_kind(), [self._new(choice, is_first) for choice in choices], extra)

    def usage_piece(self, usage: Usage) -> str:
        """The piece that ends a stream whose client wants to know the usage."""
        return self._text(self._piece_kind(), [], {"usage": usage.document()})

    def _piece_kind(self) -> str:
        return "chat.completion.chunk" if self.is_chat else "text_completion"

    def _text(self, kind: str, choices: list[Any], extra: dict[str, Any]) -> str:
        head = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return _json({**head, "system_fingerprint": f"version-{self.version}", "choices": choices, **extra})

    def _whole_choice(self, choice: Choice) -> dict[str, Any]:
        text: dict[str, Any] = {"text": choice.text}
        if self.is_chat:
            text = {"message": {"role": "assistant", "content": choice.text, "refusal": None}}
        return {"index": choice.index, **text, "logprobs": None, "finish_reason": choice.finish_reason}

    def _new(self, choice: Choice, is_first: bool) -> dict[str, Any]:
        text: dict[str, Any] = {"text": choice.text}
        if self.is_chat:
            role = {"role": "assistant"} if is_first else {}
            text = {"delta": {**role, **({"content": choice.text} if choice.text or is_first else {})}}
        return {"index": choice.index, **text, "logprobs": None, "finish_reason": choice.finish_reason or None}


def models(names: Sequence[str]) -> str:
    """The list of models."""
    listed = [{"id": name, "object": "model", "created": 0, "owned_by": "kerasllm"} for name in names]
    return _json({"object": "list", "data": listed})


def error(status: Code, message: str, param: str | None = None, code: str | None = None) -> str:
    """The body of a refusal."""
    kind = _KINDS.get(status, "server_error")
    if status == Code.NOT_FOUND:
        param, code = "model", "model_not_found"
    return _json({"error": {"message": message, "type": kind, "param": param, "code": code}})


def _json(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))
