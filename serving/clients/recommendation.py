"""How does a program ask a served recommender? Lists for users, and scores of items it has in mind."""

from collections.abc import Sequence
from dataclasses import dataclass

from kerasllm.errors import InvalidRequest
from serving.clients.arrays import to_python
from serving.clients.client import PredictClient

Event = str | tuple[str, float]  # an item that was liked, or one with its value: a rating, the strength of an event
UNKNOWN = -1e9  # the score of what is no item


@dataclass(frozen=True)
class Recommended:
    """One place of a list.

    Attributes:
      item: its id.
      title: of the item.
      score: higher is better; of one list only.
      reason: in words.
    """

    item: str
    title: str
    score: float
    reason: str


def recommend(
    client: PredictClient, histories: Sequence[Sequence[Event]], blocked: Sequence[Sequence[str]] | None = None
) -> list[list[Recommended]]:
    """A list for each user, the best first; raises what the client does.

    Args:
      client: of a recommender.
      histories: of each user, the oldest event first; none for a new user.
      blocked: categories that each user does not want.
    """
    if not histories:
        return []
    given = {
        "history": [_history(events) for events in histories],
        "blocked": [_joined(names) for names in blocked or [()] * len(histories)],
    }
    outputs = client.predict(given, "recommend")
    columns = [to_python(outputs[name]) for name in ("items", "titles", "scores", "reasons")]
    users = (zip(*row, strict=True) for row in zip(*columns, strict=True))
    return [[Recommended(*place) for place in places if place[0]] for places in users]  # "" fills short lists up


def score_items(
    client: PredictClient, histories: Sequence[Sequence[Event]], candidates: Sequence[Sequence[str]]
) -> list[dict[str, float | None]]:
    """For each user the scores of the candidates by id, None for an id that is unknown; raises what the client does."""
    if not histories:
        return []
    given = {"history": [_history(events) for events in histories], "candidates": [_joined(ids) for ids in candidates]}
    rows = to_python(client.predict(given, "score")["scores"])
    return [
        {item: None if score <= UNKNOWN else score for item, score in zip(ids, row, strict=False)}  # rows are filled up
        for ids, row in zip(candidates, rows, strict=True)
    ]


def _history(events: Sequence[Event]) -> str:
    pairs = [(event, "") if isinstance(event, str) else (event[0], f":{event[1]}") for event in events]
    for item, _ in pairs:
        if ":" in item:
            raise InvalidRequest(f"item {item!r} cannot be sent in a history: what follows a colon is read as a value.")
    return _joined([item + value for item, value in pairs])


def _joined(names: Sequence[str]) -> str:
    for name in names:
        if not name or "," in name:
            raise InvalidRequest(f"{name!r} cannot be sent in a list: commas part its names, and none is empty.")
    return ",".join(names)
