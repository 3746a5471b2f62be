"""What is every signature of an exported GPT asked, before a server may have it?"""

from collections.abc import Mapping, Set
from typing import Any

import numpy as np
import tensorflow as tf

from kerasllm.export.golden import Call
from kerasllm.export.savedmodel import Request, arrays_of
from kerasllm.export.settings import SETTINGS, greedy
from kerasllm.export.streaming import CARRIED

SAMPLE_PROMPTS = ("The company said that", "今天公司", "", "plain 😀 text,\twith a tab")
SAMPLE_TOKENS = 4
SAMPLE_BEAMS = 2


def sample_calls(traced: Mapping[str, Any], compared: Set[str]) -> list[Call]:
    """What each signature that takes a prompt is asked, and the answers in the process that are named in `compared`."""
    rows = len(SAMPLE_PROMPTS)
    settings = greedy(SAMPLE_TOKENS, rows)
    penalty = np.ones([rows], np.float32)
    beams = {"max_new_tokens": settings["max_new_tokens"], "num_beams": np.full([rows], SAMPLE_BEAMS, np.int32)}
    strings = np.array([[b" the", b" a", "今".encode()]] * rows, object)
    asked: dict[str, dict[str, np.ndarray]] = {
        "generate": settings,
        "generate_without": {**settings, "forbidden": strings},
        "beam_search": {**beams, "length_penalty": penalty},
        "choose": {"choices": strings, "length_penalty": penalty},
    }
    prompts = np.array([prompt.encode() for prompt in SAMPLE_PROMPTS], object)
    calls = []
    for signature, inputs in asked.items():
        inputs = {"prompt": prompts, **inputs}
        answers = arrays_of(traced[signature](**{key: tf.constant(value) for key, value in inputs.items()}))
        calls.append(Call(signature, inputs, {key: answers[key] for key in compared & set(answers)}))
    return calls


def sample_chunk(traced: Mapping[str, Any]) -> list[Request]:
    """Requests of one row that begin a stream and go on with it."""
    settings = {key: tf.constant(value) for key, value in greedy(SAMPLE_TOKENS, 1).items()}
    first = {"prompt": tf.constant(SAMPLE_PROMPTS[:1]), **settings}
    state = traced["prefill"](**first)
    carried = {key: state[key] for key in CARRIED}
    chunk = {"chunk_tokens": tf.ones([1], tf.int32), **carried, **{key: settings[key] for key in SETTINGS}}
    return [("prefill", arrays_of(first)), ("decode_chunk", arrays_of(chunk))]
