"""When does a served assistant give a reply of its own writing, and when the retrieved one? One signature, in-graph."""

# B conversations, K retrieved replies

import dataclasses
import functools
from typing import Any

import tensorflow as tf

from kerasllm.export.assistant import ANSWER, DOCUMENT, AssistantSignatures
from kerasllm.export.grounded import GroundedGenerator
from kerasllm.export.prompts import checked
from kerasllm.export.settings import SETTINGS

GENERATED, RETRIEVED = "generated", "retrieved"  # where a reply comes from
NOT_THERE = -1.0  # cosine of what is in the catalogue and may not be found, such as a reply in another language
INPUTS = {
    "question": tf.TensorSpec([None], tf.string),
    "context": tf.TensorSpec([None], tf.string),
    **{name: SETTINGS[name] for name in ("max_new_tokens", "temperature", "seed")},
    "min_score": tf.TensorSpec([None], tf.float32),
}


@dataclasses.dataclass(frozen=True)
class GroundedConfidence:
    """When a written reply is given; fitted on held-out dialogues.

    Attributes:
      min_score: least score; above 1: never.
      cited_from: least share of the text's runs of three tokens that a cited reply has too.
      precision: that was asked for.
    """

    min_score: float = 0.0
    cited_from: float = 0.5
    precision: float = 0.0


class GroundedAssistantSignatures(tf.Module):
    """The functions of an assistant, and `generate_reply` beside them.

    Args:
      assistant: what is looked up, and what is given instead of a written reply.
      generator: of the replies.
      num_replies: K, retrieved replies that the generator reads.
      confidence: when a written reply is given.

    Attributes:
      traced: gives `generate_reply` as a traced function.
    """

    def __init__(
        self,
        assistant: AssistantSignatures,
        generator: GroundedGenerator,
        num_replies: int,
        confidence: GroundedConfidence,
    ) -> None:
        super().__init__(name="grounded_assistant")
        self._assistant, self._generator = assistant, generator
        self._num_replies, self._cited_from = num_replies, confidence.cited_from
        self._min_score = tf.Variable(confidence.min_score, trainable=False, name="min_score")
        self.traced = functools.cache(
            lambda: tf.function(self.generate_reply, autograph=False).get_concrete_function(**INPUTS)
        )

    def speak_from(self, min_score: float) -> None:
        """Changes the fitted least score; nothing is traced again."""
        self._min_score.assign(min_score)

    def generate_reply(
        self, question: Any, context: Any, max_new_tokens: Any, temperature: Any, seed: Any, min_score: Any
    ) -> dict[str, Any]:
        """Questions [B] and their contexts [B] string -> a written reply, or what `reply` says.

        A written reply is given if its score is `min_score` or more, where that is not below 0, and otherwise the
        threshold that was fitted; and if the question is in scope, the text came to its end, has no open slot, copies
        every value, and draws on a retrieved reply. The score is the probability of a token of it (the geometric
        mean, by the model alone) times the probability, by retrieval, that one of the cited replies is right.

        Returns, [B] each: reply; source ("generated" or "retrieved"); action and reason; score; generated (what was
        written, given or not); num_tokens of that; document (the source of a passage); intent, out_of_scope. And
        [B, K]: retrieved (the replies as the generator read them, "" where there are fewer), cited (those that the text
        draws on, else ""), cited_ids (their places in the catalogue, else -1), shares (how much of the text each has).
        """
        with tf.control_dependencies(checked({"min_score has to be a number.": _are_numbers(min_score)})):
            looked_up = self._assistant.look_up(tf.identity(question), context)
        known = self._assistant.decide(question, looked_up)
        found = {name: column[:, : self._num_replies] for name, column in looked_up["found"].items()}
        is_there = self._padded(found["similarity"] > NOT_THERE, False)
        ids = tf.where(is_there, self._padded(found["replies"], 0), -1)
        texts = self._assistant.written(tf.maximum(ids, 0), looked_up["values"])
        texts = tf.where(is_there, texts, "")
        settings = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
        said = self._generator.write(question, context, texts, settings)
        is_cited = is_there & (said.shares >= self._cited_from)
        likely = tf.where(is_cited, self._padded(found["probabilities"], 0.0), 0.0)
        score = tf.exp(said.log_probability) * tf.minimum(tf.reduce_sum(likely, axis=1), 1.0)
        least = tf.where(min_score < 0, self._min_score, min_score)
        flaws = {
            "the question is out of scope": looked_up["intent"]["out_of_scope"],
            "what was written has no end": ~said.is_ended,
            "what was written leaves a slot open": ~said.is_filled,
            "what was written has a value that stands in none of its sources": ~said.is_copied,
            "what was written stands in no retrieved reply": ~tf.reduce_any(is_cited, axis=1),
            "what was written has a score below the least": score < least,
        }
        reason = tf.fill(tf.shape(question), "written from the replies that are cited")
        for why, holds in reversed(flaws.items()):
            reason = tf.where(holds, tf.strings.join([f"{why}; ", known["reason"]]), reason)
        is_flawed = tf.reduce_any(list(flaws.values()), axis=0)
        return {
            "reply": tf.where(is_flawed, known["reply"], said.text),
            "source": tf.where(is_flawed, RETRIEVED, GENERATED),
            "action": tf.where(is_flawed, known["action"], ANSWER),
            "reason": reason,
            "score": score,
            "generated": said.text,
            "num_tokens": said.num_tokens,
            "document": tf.where(is_flawed & tf.equal(known["action"], DOCUMENT), known["source"], ""),
            "intent": known["intent"],
            "out_of_scope": known["out_of_scope"],
            "retrieved": texts,
            "cited": tf.where(is_cited, texts, ""),
            "cited_ids": tf.where(is_cited, ids, -1),
            "shares": said.shares,
        }

    def signatures(self) -> dict[str, Any]:
        """The traced functions by signature name."""
        return {**self._assistant.signatures(), "generate_reply": self.traced()}

    def _padded(self, columns: Any, filling: Any) -> Any:
        """[B, K at most] -> [B, K]: a catalogue may have fewer replies than the generator reads."""
        missing = self._num_replies - tf.shape(columns)[1]
        return tf.pad(columns, [[0, 0], [0, missing]], constant_values=filling)


def _are_numbers(values: Any) -> Any:
    return tf.reduce_all(tf.math.is_finite(values))
