"""What does a model read before a grounded reply? Retrieved replies, earlier turns and the question, in-graph."""

# B conversations, K replies

from typing import Any

import tensorflow as tf

from kerasllm.config import Chat, ChatRole
from kerasllm.errors import ConfigError
from kerasllm.text.interface import Tokenizer
from kerasllm.text.turns import ASSISTANT, CUSTOMER

REPLIES_SHARE = 0.6  # of the room, for the retrieved replies; the rest is for the turns
LEAST_TOKENS = 8  # of a reply or a turn: less of it says nothing


class GroundedPrompt:
    """Writes conversations as token ids, the same in preparation and in the served graph.

    The system's turn holds the retrieved replies with their numbers, a line each; then come the newest earlier turns
    and the question, and the beginning of the assistant's turn, all by the template of chats. What is too long loses
    its end: each reply and each turn has a share of the room of its own. A turn is one line, so that none can pass
    for another role's.

    Args:
      tokenizer: of the model.
      chat: the template.
      num_replies: K.
      num_turns: earlier turns at most.
      room: tokens that a prompt may have.

    Attributes:
      reply_tokens, turn_tokens: what a reply and a turn are cut to.

    Raises:
      ConfigError: the room is too small.
    """

    def __init__(self, tokenizer: Tokenizer, chat: Chat, num_replies: int, num_turns: int, room: int) -> None:
        self._tokenizer, self._roles = tokenizer, chat.roles
        self._num_replies, self._num_turns = num_replies, num_turns
        longer = max((chat.roles.user, chat.roles.assistant), key=lambda role: self._size(role.prefix + role.suffix))
        fixed = self._size(chat.roles.system.prefix) + self._size(chat.roles.system.suffix)
        fixed += 1 + self._size(chat.roles.assistant.prefix) + num_replies * self._size("\n")
        fixed += (num_turns + 1) * (self._size(longer.prefix) + self._size(longer.suffix))
        self.reply_tokens = int(REPLIES_SHARE * (room - fixed)) // max(1, num_replies)
        self.turn_tokens = int((1 - REPLIES_SHARE) * (room - fixed)) // (num_turns + 1)
        if min(self.reply_tokens, self.turn_tokens) < LEAST_TOKENS:
            needed = fixed + round(
                LEAST_TOKENS * max(num_replies / REPLIES_SHARE, (num_turns + 1) / (1 - REPLIES_SHARE))
            )
            raise ConfigError(
                f"{num_replies} replies and {num_turns + 1} turns need a prompt of {needed + 2} tokens, and there is "
                f"room for {room}. Raise train.sequence_length, or lower grounding.replies or grounding.max_new_tokens."
            )

    def __call__(self, replies: Any, contexts: Any, questions: Any) -> Any:
        """Token ids [B, (tokens)] int32, the one that begins a text included.

        Args:
          replies: [B, K] string, best first; "" is none.
          contexts: [B] string, earlier turns as kerasllm.text.turns writes them.
          questions: [B] string.
        """
        empty = tf.zeros_like(questions)
        system, user, assistant = self._roles.system, self._roles.user, self._roles.assistant
        parts = [tf.RaggedTensor.from_tensor(tf.fill([tf.shape(questions)[0], 1], self._tokenizer.special.bos))]
        parts.append(self._tokens(empty + system.prefix))
        for number in range(self._num_replies):
            reply = _one_line(replies[:, number])
            parts += self._unless_empty(reply, empty + f"{number + 1}. ", empty + "\n", self.reply_tokens)
        parts.append(self._tokens(empty + system.suffix))
        for turn in self._turns(contexts):
            is_ours = tf.strings.regex_full_match(turn, f"{ASSISTANT}: .*")
            prefix, suffix = (tf.where(is_ours, *pair) for pair in _pairs(assistant, user))
            words = tf.strings.regex_replace(turn, f"^(?:{CUSTOMER}|{ASSISTANT}): ", "")
            parts += self._unless_empty(words, prefix, suffix, self.turn_tokens)
        parts.append(self._tokens(empty + user.prefix))
        parts.append(self._tokens(_one_line(questions))[:, : self.turn_tokens])
        parts += [self._tokens(empty + user.suffix), self._tokens(empty + assistant.prefix)]
        return tf.concat(parts, axis=1)

    def _turns(self, contexts: Any) -> list[Any]:
        """The newest earlier turns [B] string each, oldest first; "" where there are fewer."""
        if not self._num_turns:
            return []
        lines = tf.strings.split(contexts, "\n")
        lines = tf.ragged.map_flat_values(_one_line, lines)
        is_turn = tf.ragged.map_flat_values(tf.not_equal, lines, "")
        newest = tf.ragged.boolean_mask(lines, is_turn)[:, -self._num_turns :]
        return tf.unstack(newest.to_tensor("", shape=[None, self._num_turns]), axis=1)

    def _unless_empty(self, texts: Any, prefix: Any, suffix: Any, most: int) -> list[Any]:
        """A text between its prefix and its suffix, or nothing."""
        is_there = tf.not_equal(texts, "")
        before, behind = (tf.where(is_there, edge, "") for edge in (prefix, suffix))
        return [self._tokens(before), self._tokens(texts)[:, :most], self._tokens(behind)]

    def _tokens(self, texts: Any) -> Any:
        return self._tokenizer.tokenize(texts)

    def _size(self, text: str) -> int:
        return int(self._tokenizer.tokenize(tf.constant([text])).row_lengths()[0])


def _pairs(first: ChatRole, second: ChatRole) -> list[tuple[str, str]]:
    return [(first.prefix, second.prefix), (first.suffix, second.suffix)]


def _one_line(texts: Any) -> Any:
    return tf.strings.strip(tf.strings.regex_replace(texts, r"\s+", " "))
