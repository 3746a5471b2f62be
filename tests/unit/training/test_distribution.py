"""Which processes make a cluster, which rows does each replica take, and what is refused where there is no TPU?"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import yaml

from kerasllm import config, training
from kerasllm.errors import ConfigError
from kerasllm.training.distribution import refuse_what_a_tpu_cannot_take, rows_of_replica
from kerasllm.training.workers import workers_of

NOBODY = config.Cluster()
TWO = config.Cluster(workers=("alpha:1", "beta:2"))


def tf_config(cluster: Any, kind: str, index: int) -> str:
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


def test_the_configuration_or_tf_config_says_who_the_workers_are() -> None:
    assert workers_of(TWO, 1, None) == (["alpha:1", "beta:2"], 1)
    assert workers_of(NOBODY, None, tf_config({"worker": ["a:1", "b:2"]}, "worker", 1)) == (["a:1", "b:2"], 1)
    chief = {"chief": ["c:3"], "worker": ["a:1", "b:2"]}
    assert workers_of(NOBODY, None, tf_config(chief, "worker", 1)) == (["c:3", "a:1", "b:2"], 2)
    assert workers_of(NOBODY, None, tf_config(chief, "chief", 0)) == (["c:3", "a:1", "b:2"], 0)


def test_an_index_by_flag_goes_before_tf_config() -> None:
    assert workers_of(TWO, 0, tf_config({"worker": ["a:1", "b:2"]}, "worker", 1)) == (["alpha:1", "beta:2"], 0)


@pytest.mark.parametrize(
    ("cluster", "index", "text", "message"),
    [
        (NOBODY, None, None, "needs the workers' addresses: set the variable TF_CONFIG, or cluster.workers"),
        (TWO, None, None, "worker_index=None: cluster.workers has the workers 0 to 1. Give --worker_index"),
        (TWO, 2, None, "worker_index=2: cluster.workers has the workers 0 to 1"),
        (NOBODY, None, "worker 1", "the variable TF_CONFIG is wrong"),
        (NOBODY, None, tf_config({"worker": ["a:1"]}, "worker", 1), "task 1 of 1 of job 'worker'"),
        (NOBODY, None, tf_config({"worker": ["a:1"], "ps": ["b:2"]}, "worker", 0), "neither chief nor worker"),
    ],
)
def test_a_cluster_that_is_not_said_or_wrong_is_refused(
    cluster: config.Cluster, index: int | None, text: str | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        workers_of(cluster, index, text)


def test_several_workers_after_the_first_tensor_are_refused() -> None:
    tf.constant(1.0)
    with pytest.raises(ConfigError, match="Call make_strategy before the first tensor is made"):
        training.make_strategy("multi_worker_mirrored", cluster=TWO, worker_index=0)


def test_a_program_for_one_process_says_so() -> None:
    with pytest.raises(ConfigError, match="this program trains in one process"):
        training.make_strategy("multi_worker_mirrored")


def test_addresses_of_workers_are_checked() -> None:
    with pytest.raises(ConfigError, match="workers: 'alpha' is not host:port"):
        config.make_run({"cluster": {"workers": ["alpha"]}})
    with pytest.raises(ConfigError, match="an address stands there twice"):
        config.make_run({"cluster": {"workers": ["alpha:1", "alpha:1"]}})


@pytest.mark.parametrize(
    ("size", "replicas", "expected"),
    [(6, 3, [[0, 1], [2, 3], [4, 5]]), (5, 2, [[0, 1], [2, 3, 4]]), (1, 3, [[], [], [0]])],
)
def test_replicas_share_a_batch_in_order(size: int, replicas: int, expected: list[list[int]]) -> None:
    batch = {"rows": tf.range(size)}
    parts = [rows_of_replica(batch, tf.constant(one, tf.int64), replicas)["rows"] for one in range(replicas)]
    assert [part.numpy().tolist() for part in parts] == expected


def test_each_replica_s_rows_have_a_static_shape() -> None:
    batches = tf.data.Dataset.from_tensors({"rows": np.zeros((6, 5), np.float32)})
    spread = batches.map(lambda batch: rows_of_replica(batch, tf.constant(1, tf.int64), 3))
    assert spread.element_spec["rows"].shape == (2, 5)


@pytest.mark.parametrize("address", ["local", "grpc://127.0.0.1:1"])
def test_a_tpu_that_is_not_there_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=f"no TPU answers at cluster.tpu='{address}'"):
        training.make_strategy("tpu", cluster=config.Cluster(tpu=address))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (tf.TensorSpec([8], tf.string), "'texts' of a batch is string"),
        (tf.TensorSpec([8, None], tf.int32), r"'texts' of a batch is int32 \(8, None\)"),
    ],
)
def test_strings_and_changing_shapes_are_refused_on_a_tpu(spec: tf.TensorSpec, message: str) -> None:
    refuse_what_a_tpu_cannot_take({"token_ids": tf.TensorSpec([8, 128], tf.int32)})
    with pytest.raises(ConfigError, match=message):
        refuse_what_a_tpu_cannot_take({"token_ids": tf.TensorSpec([8, 128], tf.int32), "texts": spec})


def test_a_run_may_go_on_elsewhere_but_not_with_another_seed(tmp_path: Path) -> None:
    here = config.make_run({"train": {"steps": 5}})
    training.prepare_workdir(tmp_path, here)
    elsewhere = config.make_run(
        {"train": {"steps": 5, "strategy": "multi_worker_mirrored"}, "cluster": {"workers": ["a:1", "b:2"]}}
    )
    training.prepare_workdir(tmp_path, elsewhere)
    with pytest.raises(ConfigError, match="seed: 1 -> 2"):
        training.prepare_workdir(tmp_path, elsewhere.model_copy(update={"seed": 2}))


def test_a_worker_that_is_not_the_chief_leaves_the_workdir_as_it_is(tmp_path: Path) -> None:
    run = config.make_run({"train": {"steps": 5}})
    training.prepare_workdir(tmp_path / "none", run, writes=False)
    assert not (tmp_path / "none").exists()


def test_the_cluster_of_the_kubernetes_manifest_can_be_read() -> None:
    manifest = Path(__file__).parents[3] / "docs" / "cluster" / "pretrain.kubernetes.yaml"
    service, job = yaml.safe_load_all(manifest.read_text(encoding="utf-8"))
    flags = job["spec"]["template"]["spec"]["containers"][0]["args"]
    run = config.load_run(None, ["train.steps=1", *(flag[6:] for flag in flags if flag.startswith("--set="))])
    name = f"{job['metadata']['name']}-%d.{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    assert run.cluster.workers == tuple(name % index for index in range(job["spec"]["completions"]))
    assert run.train.strategy == "multi_worker_mirrored"
