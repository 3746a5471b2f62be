"""How does a program ask a served assistant? One question in its conversation, and the reply with its reasons."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from serving.clients.arrays import to_python
from serving.clients.client import PredictClient


@dataclass(frozen=True)
class Reply:
    """What an assistant says, and why.

    Attributes:
      reply: to the customer.
      action: "answer", "ask_slot" (the reply asks for a value), "document" (it is a passage) or "hand_over".
      reason: of the action, in words.
      matched_reply: the template that fits best, found by the past question `matched_question`.
      score: probability of the match, similarity: its cosine.
      missing_slot: that is asked for, else "".
      intent: of the question, intent_score: its probability, out_of_scope: it is none that the assistant knows.
      source: of a passage, else "".
      candidates: the best templates, candidate_scores: their probabilities.
    """

    reply: str
    action: str
    reason: str
    matched_reply: str
    matched_question: str
    score: float
    similarity: float
    missing_slot: str
    intent: str
    intent_score: float
    out_of_scope: bool
    source: str
    candidates: list[str]
    candidate_scores: list[float]


def reply(client: PredictClient, question: str, context: str = "") -> Reply:
    """The assistant's reply; raises what the client does.

    Args:
      client: of an assistant.
      question: of the customer.
      context: earlier turns, the oldest first, a line each: `customer: ...` or `assistant: ...`.
    """
    outputs = client.predict({"question": [question], "context": [context]}, "reply")
    return Reply(**{field.name: to_python(outputs[field.name])[0] for field in fields(Reply)})


@dataclass(frozen=True)
class WrittenReply:
    """What an assistant that writes replies of its own says, and what that stands on.

    Attributes:
      reply: to the customer.
      source: "generated", or "retrieved": what `reply` says is given instead.
      action: as of a Reply; of a generated one "answer".
      reason: why this one is given.
      score: of the written one, 0 to 1.
      generated: what was written, given or not; num_tokens of it.
      document: the source of a passage, else "".
      intent: of the question, out_of_scope: it is none that the assistant knows.
      retrieved: the replies that it was written from, "" where there are fewer.
      cited: those of them that it draws on, else ""; cited_ids: their places in the catalogue, else -1.
      shares: of its runs of three tokens that stand in each of the retrieved.
    """

    reply: str
    source: str
    action: str
    reason: str
    score: float
    generated: str
    num_tokens: int
    document: str
    intent: str
    out_of_scope: bool
    retrieved: list[str]
    cited: list[str]
    cited_ids: list[int]
    shares: list[float]


def generate_reply(
    client: PredictClient,
    question: str,
    context: str = "",
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
    min_score: float = -1.0,
) -> WrittenReply:
    """A reply of the assistant's own writing, or the retrieved one; raises what the client does.

    Args:
      client: of an assistant with a generator.
      question: of the customer.
      context: earlier turns, as in `reply`.
      max_new_tokens: of what is written, as far as the export has room for them.
      temperature: 0 takes the most probable token.
      seed: the same seed gives the same text.
      min_score: least score of a written reply; below 0: what the export was fitted to.
    """
    inputs: dict[str, Any] = {
        "question": [question],
        "context": [context],
        "max_new_tokens": np.array([max_new_tokens], np.int32),
        "temperature": np.array([temperature], np.float32),
        "seed": np.array([seed], np.int64),
        "min_score": np.array([min_score], np.float32),
    }
    outputs = client.predict(inputs, "generate_reply")
    return WrittenReply(**{field.name: to_python(outputs[field.name])[0] for field in fields(WrittenReply)})
