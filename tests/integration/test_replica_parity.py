"""Does a run give the same numbers over any devices? One device against replicas and worker processes, as a gate.

Each case is compared with one device that computes the whole batch at once, on the same 20 global batches, whose rows
have very uneven numbers of targets. Tolerances, float32 (as the differences come from the order of sums alone):
  gradient of one step     1e-5 of its global norm
  losses of 20 steps       1e-5 relative
  weights after 20 steps   1e-5 of each tensor's largest weight (momentum; Adam divides rounding by rounding where the
                           true gradient is zero, as for the key's bias: its losses alone are compared)

mixed_bfloat16: numbers have 8 significant bits, so rounding changes one by up to u = 2^-9 = 0.2 %. A weight's gradient
is summed in float32 and rounded once for each replica and slice, so the sum of the parts differs from the whole by
about u of it; and sums are blocked otherwise when a batch has fewer rows, which turns a few roundings over. Hence:
  gradient of one step     4 u = 2^-7 of its global norm
  losses of 20 steps       2 u = 2^-8 relative
  weights after 20 steps   2^-4 of the way that all of them went together: the differences of 20 steps add up, and where
                           the true gradient is zero a weight walks on rounding alone, so single tensors say nothing

In each case a 21st step, whose last row (on the last replica) weighs infinitely much, has to change nothing anywhere.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm import config, losses, models, training
from kerasllm.training.step import TrainStep
from tests.integration.processes import Process, free_addresses

VOCAB, ROWS, LENGTH, SLOTS, STEPS = 60, 16, 24, 4, 20
TASKS = ("bert_pretraining", "gpt_pretraining")


GRADIENT = {"float32": 1e-5, "mixed_bfloat16": 2**-7}  # of its global norm
LOSS = {"float32": 1e-5, "mixed_bfloat16": 2**-8}  # relative
WEIGHT = 1e-5  # float32: of a tensor's largest weight
WAY = 2**-4  # mixed_bfloat16: of the way of all weights together


@dataclasses.dataclass(frozen=True)
class Case:
    """One way to compute the same run."""

    layout: str  # "1", "2" or "4" devices, or "workers": two processes
    precision: str
    accumulation: int
    clips: bool
    task: str
    optimizer: str = "momentum"

    def whole(self) -> "Case":
        """The same on one device at once."""
        return dataclasses.replace(self, layout="1", accumulation=1)

    def __str__(self) -> str:
        words = (self.layout, self.precision, f"accumulation{self.accumulation}", "clip" * self.clips, self.task[:4])
        return "-".join(word for word in (*words, self.optimizer) if word)


PAIRWISE = [  # every two settings of two columns meet in one of these lines
    Case("2", "float32", 1, True, "bert_pretraining"),
    Case("2", "mixed_bfloat16", 4, False, "gpt_pretraining"),
    Case("4", "float32", 4, False, "bert_pretraining"),
    Case("4", "mixed_bfloat16", 1, True, "gpt_pretraining"),
    Case("workers", "float32", 4, True, "gpt_pretraining"),
    Case("workers", "mixed_bfloat16", 1, False, "bert_pretraining"),
    Case("1", "float32", 4, True, "gpt_pretraining"),
    Case("1", "mixed_bfloat16", 4, False, "bert_pretraining"),
    Case("2", "float32", 1, True, "bert_pretraining", "adamw"),
]
SETTINGS = (("1", "2", "4", "workers"), ("float32", "mixed_bfloat16"), (1, 4), (True, False), TASKS)
ALL = [Case(*values) for values in itertools.product(*SETTINGS)]
ALL = [case for case in ALL if case != case.whole()]
ALL += [dataclasses.replace(case, optimizer="adamw") for case in ALL if case.precision == "float32" and case.clips]
AT_ONCE = 12  # cases of one pair of worker processes


def make_batch(task: str, step: int) -> dict[str, np.ndarray]:
    """A pure function of its step; row r has 3 + r tokens, so that the last replica has most of the targets."""
    random = np.random.default_rng([11, step])
    lengths = 3 + np.arange(ROWS)
    real = np.arange(LENGTH) < lengths[:, None]
    tokens = (random.integers(5, VOCAB, (ROWS, LENGTH)) * real).astype(np.int32)
    positions = np.tile(np.arange(LENGTH, dtype=np.int32), (ROWS, 1))
    batch = {"token_ids": tokens, "sequence_ids": real.astype(np.int32), "position_ids": positions}
    if task == "gpt_pretraining":
        batch |= {"labels": np.roll(tokens, -1, 1), "label_weights": np.roll(real, -1, 1).astype(np.float32)}
        batch["label_weights"][:, -1] = 0
        weights = batch["label_weights"]
    else:
        slots = np.tile(np.arange(1, SLOTS + 1, dtype=np.int32), (ROWS, 1))
        weights = (random.random((ROWS, SLOTS)) < lengths[:, None] / 20).astype(np.float32)
        batch |= {
            "token_type_ids": np.zeros_like(tokens),
            "masked_positions": slots,
            "masked_labels": np.take_along_axis(tokens, slots, 1),
            "masked_weights": weights,
            "pair_positions": np.zeros((ROWS, 1), np.int32),
            "pair_labels": random.integers(0, 2, (ROWS, 1)).astype(np.int32),
            "pair_weights": (np.arange(ROWS) >= ROWS // 2)[:, None].astype(np.float32),  # none on the first replica
        }
    if step == STEPS:
        weights[-1, 0] = np.inf
    return batch


def make_run(case: Case) -> config.Run:
    architecture = "gpt" if case.task == "gpt_pretraining" else "bert"
    return config.make_run(
        {
            "backbone": {
                "architecture": architecture, "num_layers": 1, "hidden_dim": 32, "num_heads": 2, "max_length": 32,
                "dropout": 0.0, "attention_dropout": 0.0,
            },
            "export": {"sequence_length": LENGTH},
            "objective": {"task": case.task},
            "optimizer": {"peak_learning_rate": 1.0e-3, "warmup_share": 0.0},
            "train": {
                "steps": STEPS, "global_batch": ROWS, "sequence_length": LENGTH, "precision": case.precision,
                "accumulation": case.accumulation,
            },
        }
    )  # fmt: skip


def compute(case: Case, strategy: tf.distribute.Strategy) -> dict[str, Any]:
    """Numbers of 20 steps: the first gradient and the last weights (lists of arrays), and each step's numbers."""
    run = make_run(case)
    keras.utils.set_random_seed(4)
    with strategy.scope():
        model = models.from_run(run, VOCAB)
        if case.optimizer == "adamw":
            optimizer = training.make_optimizer(run.optimizer, STEPS, model)
        else:
            optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
            optimizer.build(model.trainable_variables)
    clip_norm = 0.25 if case.clips else None
    step = TrainStep(strategy, model, optimizer, losses.heads_for(run), case.accumulation, clip_norm, run.seed)
    made = [make_batch(case.task, number) for number in range(STEPS + 1)]
    batches = tf.data.Dataset.from_tensor_slices({name: np.stack([one[name] for one in made]) for name in made[0]})
    next_batch = training.distributed(strategy, batches)
    rows, first_gradient, start = [], [], arrays(model)
    for number in range(STEPS):
        numbers = step(next_batch(), number).numpy()
        rows.append(dict(zip(step.names, numbers.tolist(), strict=True)))
        if number == 0 and case.optimizer == "momentum":  # it is what the momentum holds: -rate x gradient
            first_gradient = [one.numpy() / -0.05 for one in optimizer.variables if "momentum" in one.path]
    weights, state = arrays(model), arrays(optimizer)
    bad = dict(zip(step.names, step(next_batch(), STEPS).numpy().tolist(), strict=True))
    return {
        "paths": [one.path for one in model.trainable_variables],
        "gradient": first_gradient,
        "start": start,
        "weights": weights,
        "steps": rows,
        "bad_step_skipped": bad["skipped"],
        "bad_step_changed": any(
            np.any(before != after)
            for before, after in zip(weights + state, arrays(model) + arrays(optimizer), strict=True)
        ),
    }


def arrays(owner: Any) -> list[np.ndarray]:
    """The variables of a model or an optimizer."""
    return [one.numpy() for one in owner.variables]


def length(parts: Sequence[np.ndarray]) -> float:
    """The norm of all parts together."""
    return float(np.sqrt(sum(np.sum(part.astype(np.float64) ** 2) for part in parts)))


def minus(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [ours - theirs for ours, theirs in zip(one, other, strict=True)]


def work(cases: Sequence[Case], addresses: list[str], index: int) -> dict[Case, dict[str, Any]]:
    """The cases as one of two workers computes them."""
    cluster = config.Cluster(workers=tuple(addresses))
    strategy = training.make_strategy("multi_worker_mirrored", cluster=cluster, worker_index=index)
    return {case: compute(case, strategy) for case in cases}


def in_two_workers(cases: Sequence[Case]) -> dict[Case, dict[str, Any]]:
    """What the second worker got; it has to be the same as what the first one got, bit for bit."""
    addresses = free_addresses(2)
    with Process(work, cases, addresses, 0) as chief, Process(work, cases, addresses, 1) as other:
        firsts, seconds = chief.result(), other.result()
    for case in cases:
        assert firsts[case]["steps"] == seconds[case]["steps"]
        for one, two in zip(firsts[case]["weights"], seconds[case]["weights"], strict=True):
            np.testing.assert_array_equal(one, two)
    return seconds


class Results:
    """What each case gives, computed once; the workers' cases several at once, in one pair of processes."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self._cases = cases
        self._known: dict[Case, dict[str, Any]] = {}

    def of(self, case: Case) -> dict[str, Any]:
        if case not in self._known and case.layout == "workers":
            workers = [one for one in self._cases if one.layout == "workers"]
            first = workers.index(case) // AT_ONCE * AT_ONCE
            self._known |= in_two_workers(workers[first : first + AT_ONCE])
        elif case not in self._known:
            strategy = "one_device" if case.layout == "1" else "mirrored"
            self._known[case] = compute(case, training.make_strategy(strategy, int(case.layout)))
        return self._known[case]


@pytest.fixture(scope="module")
def few() -> Results:
    return Results(PAIRWISE)


@pytest.fixture(scope="module")
def every() -> Results:
    return Results(ALL)


def check(case: Case, results: Results) -> None:
    ours, theirs = results.of(case), results.of(case.whole())
    for one, two in zip(ours["steps"], theirs["steps"], strict=True):
        assert {name: one[name] for name in one if name.endswith(("targets", "tokens"))} == {
            name: two[name] for name in two if name.endswith(("targets", "tokens"))
        }
        assert one["loss"] == pytest.approx(two["loss"], rel=LOSS[case.precision])
        assert one["skipped"] == 0
        assert one["gradient_norm"] > 0.25 or not case.clips, "nothing was clipped"
    assert (ours["bad_step_skipped"], ours["bad_step_changed"]) == (1, False)
    if case.optimizer == "adamw":
        return
    apart = length(minus(ours["gradient"], theirs["gradient"]))
    assert apart <= GRADIENT[case.precision] * length(theirs["gradient"])
    if case.precision == "mixed_bfloat16":
        way = length(minus(theirs["weights"], theirs["start"]))
        assert length(minus(ours["weights"], theirs["weights"])) <= WAY * way
        return
    for path, one, two in zip(theirs["paths"], ours["weights"], theirs["weights"], strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=WEIGHT * np.abs(two).max(), err_msg=path)


def test_every_two_settings_meet_in_the_plain_cases() -> None:
    fields = [field.name for field in dataclasses.fields(Case) if field.name != "optimizer"]
    for first, second in itertools.combinations(fields, 2):
        wanted = {(getattr(case, first), getattr(case, second)) for case in ALL if case.optimizer == "momentum"}
        assert wanted == {(getattr(case, first), getattr(case, second)) for case in PAIRWISE}, (first, second)


@pytest.mark.parametrize("case", PAIRWISE, ids=str)
def test_replicas_workers_and_slices_give_the_numbers_of_one_device(case: Case, few: Results) -> None:
    check(case, few)


@pytest.mark.slow
@pytest.mark.parametrize("case", ALL, ids=str)
def test_every_combination_gives_the_numbers_of_one_device(case: Case, every: Results) -> None:
    check(case, every)
