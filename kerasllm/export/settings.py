"""What can be asked of a served GPT? The settings of each row, and the rules that they keep."""

# B rows, N stop strings of a row

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from kerasllm.models.sampling import Sampling

MOST_STOPS = 64  # strings of a row
MOST_FORBIDDEN, MOST_FORBIDDEN_BYTES = 64, 100  # strings of a row, and bytes of one: all tokens are compared with them
SETTINGS = {  # batch-major, so that rows with different settings share a batch
    "max_new_tokens": tf.TensorSpec([None], tf.int32),
    "temperature": tf.TensorSpec([None], tf.float32),
    "top_k": tf.TensorSpec([None], tf.int32),
    "top_p": tf.TensorSpec([None], tf.float32),
    "repetition_penalty": tf.TensorSpec([None], tf.float32),
    "seed": tf.TensorSpec([None], tf.int64),
    "stop": tf.TensorSpec([None, None], tf.string),
}


def greedy(max_new_tokens: int, rows: int) -> dict[str, np.ndarray]:
    """Settings that take the most probable word each time, of so many rows."""
    values = {"max_new_tokens": max_new_tokens, "temperature": 0, "top_k": 0, "top_p": 1, "repetition_penalty": 1}
    settings = {
        key: np.full(rows, value, SETTINGS[key].dtype.as_numpy_dtype) for key, value in {**values, "seed": 0}.items()
    }
    return {**settings, "stop": np.zeros([rows, 0], object)}


def sampling_of(settings: Mapping[str, Any]) -> Sampling:
    """How each row chooses its words."""
    names = ("temperature", "top_k", "top_p", "repetition_penalty", "seed")
    return Sampling(**{name: settings[name] for name in names})


def rules_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What has to hold of the settings, by the sentence that says it."""
    return {
        "max_new_tokens has to be at least 1.": tf.reduce_all(settings["max_new_tokens"] >= 1),
        "temperature has to be 0 (greedy) or more, and a number.": _all_in(settings["temperature"], 0.0, math.inf),
        "top_k has to be 0 (all words) or more.": tf.reduce_all(settings["top_k"] >= 0),
        "top_p has to be above 0 and at most 1.": _all_in(settings["top_p"], 1e-9, 1.0),
        "repetition_penalty has to be above 0, and a number.": _all_in(settings["repetition_penalty"], 1e-9, math.inf),
    }


def few_enough(strings: Any, most: int, name: str) -> dict[str, Any]:
    """What has to hold of strings [B, any number], by the sentence that says it."""
    return {f"a row may have at most {most} {name} strings. Send fewer.": tf.shape(strings)[1] <= most}


def short_enough(strings: Any, most_bytes: int, name: str) -> dict[str, Any]:
    """As `few_enough`."""
    told = f"a {name} string may have at most {most_bytes} bytes. Shorten it."
    return {told: tf.reduce_all(tf.strings.length(strings) <= most_bytes)}


def _all_in(values: Any, least: float, most: float) -> Any:
    return tf.reduce_all(tf.math.is_finite(values) & (values >= least) & (values <= most))
