"""Are the random requests the same for the same seed, and some of them wrong?"""

import json
import random

import numpy as np

from benchmarks.generation_requests import random_body, random_inputs
from kerasllm.export.settings import SETTINGS


def test_a_seed_names_one_request():
    for number in range(20):
        one, other = (random_inputs(random.Random(f"1 {number}")) for _ in range(2))
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name], equal_nan=one[name].dtype.kind == "f") for name in one)
        bodies = [json.dumps(random_body(random.Random(f"1 {number}"), "/v1/completions")) for _ in range(2)]
        assert bodies[0] == bodies[1]


def test_some_requests_are_right_and_some_are_not():
    right = 0
    for number in range(100):
        inputs = random_inputs(random.Random(f"1 {number}"))
        kinds = {name: spec.dtype.as_numpy_dtype for name, spec in SETTINGS.items()}
        right += inputs.keys() == {"prompt", *SETTINGS} and all(inputs[name].dtype == kinds[name] for name in kinds)
    assert 0 < right < 100
