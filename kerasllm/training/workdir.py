"""What lies in the folder of a run, and may this run go on in it?"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kerasllm.config import Run, differences, dump_run, load_run
from kerasllm.errors import ConfigError, TrainingError

WHERE = ("train.strategy:", "train.rematerialize:", "train.jit_compile:", "cluster.")  # where and how is computed


class Workdir:
    """Paths of one run: run.yaml, tokenizer/, checkpoints/, tensorboard/, metrics.json."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.run_yaml = self.path / "run.yaml"
        self.tokenizer = self.path / "tokenizer"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.metrics = self.path / "metrics.json"

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Replaces metrics.json as a whole."""
        _write_whole(self.metrics, json.dumps(metrics, indent=1) + "\n")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from training in the same folder; the system frees the lock if this one dies.

        Raises:
          TrainingError: another process holds the lock.
        """
        with open(self.path / ".lock", "w", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise TrainingError(
                    f"{self.path}: another process trains here. Stop it, or give a new --workdir."
                ) from None
            yield


def prepare_workdir(path: str | os.PathLike[str], run: Run, writes: bool = True) -> Workdir:
    """Makes the folder and its run.yaml, or checks that the run.yaml there says the same as `run`.

    Where and how it computes (strategy, cluster, XLA, rematerialisation) may differ: it is not what is computed.

    Args:
      path: of the folder.
      run: the configuration.
      writes: False for a worker that is not the chief: it only compares.

    Raises:
      ConfigError: the folder cannot be written, or belongs to another configuration.
    """
    workdir = Workdir(path)
    if writes:
        _make_folder(workdir, run)
    if workdir.run_yaml.exists() and (changed := _changes(load_run(workdir.run_yaml), run)):
        listed = "\n  ".join(changed)
        raise ConfigError(
            f"{path} belongs to a run of another configuration (there -> now):\n  {listed}\n"
            f"Give a new --workdir, or go on with --config {workdir.run_yaml}."
        )
    return workdir


def _make_folder(workdir: Workdir, run: Run) -> None:
    try:
        workdir.path.mkdir(parents=True, exist_ok=True)
        _write_whole(workdir.path / ".writable", "")
        (workdir.path / ".writable").unlink()
    except OSError as error:
        raise ConfigError(f"{workdir.path} cannot be written ({error}). Give a --workdir that can.") from error
    if not workdir.run_yaml.exists():
        _write_whole(workdir.run_yaml, dump_run(run))


def _changes(there: Run, now: Run) -> list[str]:
    return [line for line in differences(there, now) if not line.startswith(WHERE)]


def _write_whole(path: Path, text: str) -> None:
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
