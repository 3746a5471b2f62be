"""What does a version say of itself beside its graph? How its answers come in parts, and how chats are written for it.

Two files of assets.extra, both optional: docs/streaming.md is the contract. The server knows no model; it reads these.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from absl import logging
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tensorflow.core.protobuf import meta_graph_pb2

from serving.server.status import Code, StatusError

STREAMING_FILE = Path("assets.extra") / "streaming.json"
CHAT_FILE = Path("assets.extra") / "chat_template.json"
ASSISTANT = "assistant"
Signatures = Mapping[str, meta_graph_pb2.SignatureDef]
Declaration = TypeVar("Declaration", bound=BaseModel)


class StreamContract(BaseModel):
    """Which signatures stream, and what goes from one run to the next.

    Attributes:
      whole: the signature that gives the whole answer at once.
      first: the signature that begins an answer.
      next: the signature that goes on with it.
      carried: outputs of both that are inputs of `next`.
      done: the carried output that says which rows have ended.
      chunk: the input of `next` that says how many steps to go, and `chunk_size` how many unless a client says so.
      defaults: one row of each input that may be left out.
      logged: inputs whose values stand in the log, such as seeds; of others nothing does.
    """

    model_config = ConfigDict(frozen=True)
    format_version: Literal[1]
    whole: str
    first: str
    next: str
    carried: tuple[str, ...]
    done: str
    chunk: str
    chunk_size: int = Field(4, ge=1)
    defaults: dict[str, Any] = {}
    logged: tuple[str, ...] = ()

    def problem(self, signatures: Signatures) -> str:
        """What the signatures lack of what is declared; "" if nothing."""
        missing = [name for name in (self.whole, self.first, self.next) if name not in signatures]
        if missing:
            return f"there is no signature {', '.join(missing)}"
        first, following = signatures[self.first], signatures[self.next]
        unknown = set(self.logged) - set(first.inputs)
        if unknown:
            return f"inputs to be logged that {self.first!r} does not have: {', '.join(sorted(unknown))}"
        if self.done not in self.carried:
            return f"done={self.done!r} is not carried"
        for name in self.carried:
            if name not in first.outputs or name not in following.outputs or name not in following.inputs:
                return f"{name!r} cannot be carried: it is no output of both signatures and input of {self.next!r}"
        strange = set(following.inputs) - set(first.inputs) - {*self.carried, self.chunk}
        if strange or self.chunk not in following.inputs:
            return f"inputs of {self.next!r} that nothing gives: {', '.join(sorted(strange)) or 'no ' + self.chunk}"
        return ""


class Affixes(BaseModel):
    """What stands before and after a turn of a role."""

    model_config = ConfigDict(frozen=True)
    prefix: str = ""
    suffix: str = ""


class ChatTemplate(BaseModel):
    """How the turns of a chat become a prompt.

    Attributes:
      roles: of each role what stands around its turns; empty: plain lines `role: text`.
      stop: strings that end a reply.
    """

    model_config = ConfigDict(frozen=True)
    roles: dict[str, Affixes] = {}
    stop: tuple[str, ...] = ()

    def prompt(self, turns: Iterable[tuple[str, str]]) -> str:
        """The prompt whose continuation is the assistant's reply.

        Raises:
          KeyError: the template has no such role.
        """
        if not self.roles:  # the space before the reply is the model's to write: it belongs to the first word
            lines = "".join(f"{role}: {' '.join(text.split())}\n" for role, text in turns)
            return f"{lines}{ASSISTANT}:"
        written = (f"{self.roles[role].prefix}{text}{self.roles[role].suffix}" for role, text in turns)
        return "".join(written) + self.roles[ASSISTANT].prefix

    def stops(self) -> tuple[str, ...]:
        """Strings that end a reply."""
        return self.stop or (() if self.roles else ("\n",))

    def reply(self, text: str) -> str:
        """The reply that a continuation is."""
        return text if self.roles else text.lstrip(" ")


@dataclass(frozen=True)
class Declarations:
    """What a version declares; `problem` says why it cannot be streamed."""

    streaming: StreamContract | None = None
    chat: ChatTemplate = field(default_factory=ChatTemplate)
    problem: str = f"this version has no {STREAMING_FILE}"

    def contract(self) -> StreamContract:
        """How the version is streamed.

        Raises:
          StatusError: UNIMPLEMENTED, it declares nothing, or nothing that holds.
        """
        if self.streaming is None:
            raise StatusError(Code.UNIMPLEMENTED, f"This model cannot be streamed: {self.problem}.")
        return self.streaming

    def logged(self, signature: str) -> tuple[str, ...]:
        """Inputs of a signature whose values stand in the log; those of `next` did when the stream began."""
        return self.streaming.logged if self.streaming and signature != self.streaming.next else ()


def read_declarations(directory: Path, signatures: Signatures) -> Declarations:
    """What the files of a version's folder declare; a file that is wrong is told in the log and when it is asked for.

    Unary calls need none of it, so such a version is served as ever.
    """
    try:
        chat = _read(directory / CHAT_FILE, ChatTemplate) or ChatTemplate()
        if chat.roles and ASSISTANT not in chat.roles:
            raise ValueError(f"{directory / CHAT_FILE}: roles has no {ASSISTANT!r}")
        streaming = _read(directory / STREAMING_FILE, StreamContract)
        problem = streaming.problem(signatures) if streaming else ""
        if problem:
            raise ValueError(f"{directory / STREAMING_FILE}: {problem}")
    except ValueError as error:
        logging.warning("The version cannot be streamed: %s.", error)
        return Declarations(problem=str(error))
    return Declarations(streaming, chat) if streaming else Declarations(chat=chat)


def _read(path: Path, kind: type[Declaration]) -> Declaration | None:
    """The declaration in a file; None where there is no file.

    Raises:
      ValueError: the file is not such a one.
    """
    if not path.is_file():
        return None
    try:
        return kind.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise ValueError(f"{path}: {'; '.join(_complaints(error.errors()))}") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error


def _complaints(errors: Sequence[Any]) -> list[str]:
    return [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in errors]
