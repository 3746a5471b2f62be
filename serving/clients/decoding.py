"""How does a program ask a served GPT for more than a draw? Without some words, the best of all, or one of several."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serving.clients.client import PredictClient
from serving.clients.generation import Continuation, Sampling, continuations

GREEDY = Sampling()


@dataclass(frozen=True)
class Choice:
    """The string that the model takes.

    Attributes:
      text: one of those that were given.
      index: its place among them.
      probabilities: of all of them, in their order; together 1.
    """

    text: str
    index: int
    probabilities: tuple[float, ...]


def generate_without(
    client: PredictClient, prompts: Sequence[str], forbidden: Sequence[str], sampling: Sampling = GREEDY
) -> list[Continuation]:
    """The continuation of each prompt; none of the forbidden strings is in it, nor completed by its beginning."""
    if not prompts:
        return []
    words = {"forbidden": _strings([forbidden] * len(prompts))}
    return continuations(
        client.predict({**_prompts(prompts), **words, **sampling.inputs(len(prompts))}, "generate_without")
    )


def beam_search(
    client: PredictClient,
    prompts: Sequence[str],
    max_new_tokens: int = 64,
    num_beams: int = 4,
    length_penalty: float = 1.0,
) -> list[Continuation]:
    """The most probable continuation of each prompt that so many beams find.

    Args:
      client: of the model.
      prompts: texts to go on from.
      max_new_tokens: at most so many; fewer where the model has no room for them.
      num_beams: beginnings that are followed at once.
      length_penalty: log probabilities are divided by the number of tokens to this power; the more, the longer.
    """
    if not prompts:
        return []
    rows = len(prompts)
    settings = {
        "max_new_tokens": np.full(rows, max_new_tokens, np.int32),
        "num_beams": np.full(rows, num_beams, np.int32),
        "length_penalty": np.full(rows, length_penalty, np.float32),
    }
    return continuations(client.predict({**_prompts(prompts), **settings}, "beam_search"))


def choose(
    client: PredictClient, prompts: Sequence[str], choices: Sequence[str], length_penalty: float = 0.0
) -> list[Choice]:
    """Which of the choices the model would go on with after each prompt.

    Args:
      client: of the model.
      prompts: texts to go on from.
      choices: what may follow, with its space in front where a prompt has none at its end.
      length_penalty: 0 compares probabilities, which are small for long choices; 1 compares those of a token.
    """
    if not prompts:
        return []
    penalty = np.full(len(prompts), length_penalty, np.float32)
    given = {"choices": _strings([choices] * len(prompts)), "length_penalty": penalty}
    found = client.predict({**_prompts(prompts), **given}, "choose")
    return [
        Choice(choices[index], int(index), tuple(map(float, probabilities)))
        for index, probabilities in zip(found["index"], found["probabilities"], strict=True)
    ]


def _prompts(prompts: Sequence[str]) -> dict[str, np.ndarray]:
    return {"prompt": np.array([prompt.encode() for prompt in prompts], object)}


def _strings(rows: Sequence[Sequence[str]]) -> np.ndarray:
    encoded = [[one.encode() for one in row] for row in rows]
    return np.array(encoded, object).reshape(len(rows), len(rows[0]))
