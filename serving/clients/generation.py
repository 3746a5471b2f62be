"""How does a program ask a served GPT for text? Whole continuations, or one that comes a chunk at a time."""

from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.clients.client import PredictClient, StreamingNotOffered

CARRIED = ("token_ids", "lengths", "prompt_lengths", "is_done", "cache")  # from one chunk to the next


@dataclass(frozen=True)
class Continuation:
    """What the model says after a prompt.

    Attributes:
      text: without the prompt, and without the stop string that ended it.
      num_tokens: that were made for it.
      finish_reason: "stop" (the model or a stop string ended it), "length", or "" while it goes on.
    """

    text: str
    num_tokens: int
    finish_reason: str


@dataclass(frozen=True)
class Sampling:
    """How words are chosen.

    Attributes:
      max_new_tokens: at most so many; fewer where the model has no room for them.
      temperature: 0 takes the most probable word, 1 draws as the model thinks.
      top_k: only so many of the most probable words are drawn from; 0: all.
      top_p: only the most probable words that together have this probability; 1: all.
      repetition_penalty: above 1 makes words that were said already less probable.
      seed: one seed gives one text.
      stop: strings that end the text.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()

    def inputs(self, rows: int) -> dict[str, np.ndarray]:
        """The settings as inputs of a signature, the same for so many rows."""
        return {
            "max_new_tokens": np.full(rows, self.max_new_tokens, np.int32),
            "temperature": np.full(rows, self.temperature, np.float32),
            "top_k": np.full(rows, self.top_k, np.int32),
            "top_p": np.full(rows, self.top_p, np.float32),
            "repetition_penalty": np.full(rows, self.repetition_penalty, np.float32),
            "seed": np.full(rows, self.seed, np.int64),
            "stop": np.array([[one.encode() for one in self.stop]] * rows, object).reshape(rows, len(self.stop)),
        }


def generate(client: PredictClient, prompts: Sequence[str], sampling: Sampling = Sampling()) -> list[Continuation]:
    """The continuation of each prompt; raises what the client does."""
    if not prompts:
        return []
    inputs = {"prompt": np.array([prompt.encode() for prompt in prompts], object), **sampling.inputs(len(prompts))}
    outputs = client.predict(inputs, "generate")
    return continuations(outputs)


def stream(
    client: PredictClient, prompt: str, sampling: Sampling = Sampling(), chunk_tokens: int = 4
) -> Generator[Continuation]:
    """The continuation of a prompt as it grows, from any server of SavedModels.

    Each item holds the whole text so far, which never ends in the middle of a character. Who stops asking stops the
    computing. The embedded server streams over one call; of another one each chunk is asked for by a call of its own.
    """
    inputs = {"prompt": np.array([prompt.encode()], object), **sampling.inputs(1)}
    steps = np.array([chunk_tokens], np.int32)
    with suppress(StreamingNotOffered), closing(client.predict_stream({**inputs, "chunk_tokens": steps})) as parts:
        for part in parts:
            yield continuations(part)[0]
        return
    yield from stream_by_calls(client, prompt, sampling, chunk_tokens)


def stream_by_calls(
    client: PredictClient, prompt: str, sampling: Sampling = Sampling(), chunk_tokens: int = 4
) -> Generator[Continuation]:
    """As `stream`, by one Predict call for each chunk.

    The cache travels with each call, so this costs more than `generate` where prompts are long.
    """
    settings = sampling.inputs(1)
    state = client.predict({"prompt": np.array([prompt.encode()], object), **settings}, "prefill")
    yield continuations(state)[0]
    steps = np.array([chunk_tokens], np.int32)
    while not state["is_done"][0]:
        carried = {name: state[name] for name in CARRIED}
        state = client.predict({"chunk_tokens": steps, **carried, **settings}, "decode_chunk")
        yield continuations(state)[0]


def continuations(outputs: dict[str, Any]) -> list[Continuation]:
    """The rows of what a signature answers."""
    rows = zip(outputs["text"], outputs["num_tokens"], outputs["finish_reason"], strict=True)
    return [Continuation(text.decode("utf-8"), int(count), reason.decode()) for text, count, reason in rows]
