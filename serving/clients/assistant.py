"""How does a program ask a served assistant? One question in its conversation, and the reply with its reasons."""

from dataclasses import dataclass, fields

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
