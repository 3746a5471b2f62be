"""How is a conversation written for a model that answers? Messages of roles, by a template, as one text."""

from collections.abc import Iterable
from typing import Literal

from kerasllm.config import Chat

Role = Literal["system", "user", "assistant"]


def write_messages(chat: Chat, messages: Iterable[tuple[Role, str]]) -> str:
    """The messages one after another, each between the prefix and the suffix of its role."""
    written = []
    for role, text in messages:
        form = getattr(chat.roles, role)
        written.append(f"{form.prefix}{text}{form.suffix}")
    return "".join(written)


def reply_prompt(chat: Chat, messages: Iterable[tuple[Role, str]]) -> str:
    """What a model goes on from to say the next reply: the messages, and the beginning of the assistant's."""
    return write_messages(chat, messages) + chat.roles.assistant.prefix
