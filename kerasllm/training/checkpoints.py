"""How is the whole state of a run kept on disk and read back? One folder per kept step, whole or not there.

step-00000200/
  state.index, state.data-*   a TensorFlow checkpoint of two lists of plain variables: `model` and `optimizer`
  variables.json              format version, step, sizes of the state files, and path, shape and dtype of each variable
  metrics.json                held-out metrics, if the run was evaluated at this very step
  run.yaml                    the configuration

The data cursor is the step, and dropout is keyed by (seed, step, replica, slice): nothing else has to be kept.
`tf.train.Checkpoint(model=keras_model)` would silently lose seed generators and layers held in lists.
"""

import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasllm.config import Run, dump_run
from kerasllm.errors import CheckpointError

FORMAT_VERSION = 1
STEP_FOLDER = re.compile(r"step-(\d{8,})")
UNFINISHED = ".unfinished-"


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk."""

    folder: Path
    step: int
    metrics: dict[str, float]  # held-out; empty if not evaluated at this step

    @property
    def loss(self) -> float:
        """Held-out loss; infinite if it was not measured or is no number, so that such a one is never the best."""
        loss = self.metrics.get("loss", math.nan)
        return math.inf if math.isnan(loss) else loss


class CheckpointFolder:
    """The checkpoints of one run: the newest few and the best one.

    Args:
      folder: holds one `step-<8 digits>` folder per checkpoint; made when the first one is written.
      keep_newest: how many are kept beside the one with the lowest held-out loss; 0 keeps all.
    """

    def __init__(self, folder: str | os.PathLike[str], keep_newest: int = 0) -> None:
        self.folder = Path(folder)
        self.keep_newest = keep_newest

    def all(self) -> list[Checkpoint]:
        """The checkpoints, oldest first. Half-written folders have another name and are not seen."""
        folders = (path for path in self.folder.glob("step-*") if STEP_FOLDER.fullmatch(path.name))
        found = [Checkpoint(path, int(path.name.removeprefix("step-")), _read_metrics(path)) for path in folders]
        return sorted(found, key=lambda checkpoint: checkpoint.step)

    def newest(self) -> Checkpoint | None:
        """The checkpoint of the highest step."""
        return max(self.all(), key=lambda checkpoint: checkpoint.step, default=None)

    def best(self) -> Checkpoint | None:
        """The checkpoint with the lowest held-out loss; the newest one if none was evaluated."""
        return min(self.all(), key=lambda checkpoint: (checkpoint.loss, -checkpoint.step), default=None)

    def save(
        self,
        step: int,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer | None,
        run: Run,
        metrics: dict[str, float] | None = None,
    ) -> Checkpoint:
        """Writes everything under a temporary name, forces it to disk, renames it, then removes what is too old.

        Args:
          step: steps done.
          model: built.
          optimizer: None for weights that will not be trained on.
          run: the configuration.
          metrics: held-out metrics at this step, among them "loss".

        Raises:
          CheckpointError: the disk refuses.
        """
        folder = self.folder / f"step-{step:08d}"
        unfinished = self.folder / f"{UNFINISHED}{folder.name}"
        groups = {"model": model.variables, "optimizer": optimizer.variables if optimizer else []}
        described: dict[str, Any] = {
            name: [_describe(variable) for variable in group] for name, group in groups.items()
        }
        try:
            self._clean()
            unfinished.mkdir(parents=True)
            lists = {name: [variable.value for variable in group] for name, group in groups.items()}
            tf.train.Checkpoint(**lists).write(str(unfinished / "state"))
            sizes = {path.name: path.stat().st_size for path in sorted(unfinished.iterdir())}
            described = {"format_version": FORMAT_VERSION, "step": step, "bytes": sizes, **described}
            (unfinished / "variables.json").write_text(json.dumps(described, indent=1), encoding="utf-8")
            (unfinished / "metrics.json").write_text(json.dumps(metrics or {}, indent=1), encoding="utf-8")
            (unfinished / "run.yaml").write_text(dump_run(run), encoding="utf-8")
            for path in (*unfinished.iterdir(), unfinished):
                _force_to_disk(path)
            self._remove(folder)
            unfinished.rename(folder)
            _force_to_disk(self.folder)
            self._prune()
        except (OSError, tf.errors.OpError) as error:
            raise CheckpointError(
                f"{folder} cannot be written ({error}). Free space or mend the permissions."
            ) from error
        return Checkpoint(folder, step, metrics or {})

    def _clean(self) -> None:
        for path in self.folder.glob(f"{UNFINISHED}*"):
            shutil.rmtree(path)

    def _prune(self) -> None:
        best = self.best()
        for checkpoint in self.all()[: -self.keep_newest] if self.keep_newest else []:
            if checkpoint != best:
                self._remove(checkpoint.folder)

    def _remove(self, folder: Path) -> None:
        """Takes a checkpoint away under another name first: a process killed halfway leaves none that is half there."""
        if folder.exists():
            condemned = self.folder / f"{UNFINISHED}old-{folder.name}"
            folder.rename(condemned)
            shutil.rmtree(condemned)


def restore_state(checkpoint: Checkpoint, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    """Reads every variable of the model and the optimizer; the number of replicas may differ from the saved one.

    Raises:
      CheckpointError: the first variable that differs is named, or the file that is damaged.
    """
    _restore(checkpoint.folder, "model", model.variables)
    _restore(checkpoint.folder, "optimizer", optimizer.variables)


def restore_weights(model: keras.Model, workdir: str | os.PathLike[str], which: str = "best") -> int:
    """Reads the model's variables from a workdir, without the optimizer.

    Args:
      model: built, of the configuration in the workdir's run.yaml.
      workdir: of the run, or one checkpoint folder in it.
      which: "best" (lowest held-out loss, the newest if none was evaluated) or "newest".

    Returns:
      The step of the checkpoint.

    Raises:
      CheckpointError: there is none, or it is of another shape or damaged.
    """
    checkpoint = find_checkpoint(workdir, which)
    _restore(checkpoint.folder, "model", model.variables)
    return checkpoint.step


def load_backbone(backbone: keras.Model, workdir: str | os.PathLike[str], which: str = "best") -> int:
    """Reads only the backbone's variables, from a run whose model holds such a backbone; its heads are left out.

    Variables are matched by their path below the backbone, in whatever model either of them sits.

    Returns:
      The step of the checkpoint.

    Raises:
      CheckpointError: a variable of the backbone is not in the checkpoint, or has another shape there.
    """
    checkpoint = find_checkpoint(workdir, which)
    saved = _read_description(checkpoint.folder)["model"]
    positions = _match_below(backbone, [variable["path"] for variable in saved], checkpoint.folder)
    _compare_shapes(checkpoint.folder, [saved[position] for position in positions], backbone.weights)
    values = _values(checkpoint.folder, "model", positions)
    for variable, value in zip(backbone.weights, values, strict=True):
        variable.assign(value)
    return checkpoint.step


def find_checkpoint(workdir: str | os.PathLike[str], which: str = "best") -> Checkpoint:
    """The best or newest checkpoint of a workdir, or the one whose folder is given.

    Raises:
      CheckpointError: there is none.
    """
    assert which in ("best", "newest"), f"which={which!r} is neither 'best' nor 'newest'"
    path = Path(workdir)
    if STEP_FOLDER.fullmatch(path.name) and path.is_dir():
        return Checkpoint(path, int(path.name.removeprefix("step-")), _read_metrics(path))
    folder = CheckpointFolder(path / "checkpoints")
    checkpoint = folder.best() if which == "best" else folder.newest()
    if checkpoint is None:
        raise CheckpointError(f"{path} holds no checkpoint (checkpoints/step-*). Train first, or name another workdir.")
    return checkpoint


def _match_below(backbone: keras.Model, saved_paths: Sequence[str], folder: Path) -> list[int]:
    """Position in the checkpoint of each weight of the backbone, by the longest part of the path that they share.

    Keras paths start with the names of the models around: `bert_pretrainer/backbone/embeddings/token/table` and
    `text_classifier/backbone/embeddings/token/table` share all but the first part. The prefix to leave out is found
    once, for the whole backbone, so that no variable is taken from another part of the model.
    """
    own_paths = [variable.path for variable in backbone.weights]
    own_prefix = os.path.commonpath(own_paths).split("/") if own_paths else []
    places = {path: position for position, path in enumerate(saved_paths)}
    nearest: list[str] = []
    for depth in range(len(own_prefix) + 1):
        suffixes = ["/".join(path.split("/")[depth:]) for path in own_paths]
        if not all("/" in suffix for suffix in suffixes):
            break  # a bare `kernel` would match any layer's
        prefixes = {path[: -len(suffixes[0])] for path in saved_paths if ("/" + path).endswith("/" + suffixes[0])}
        for prefix in sorted(prefixes, key=len):
            missing = [suffix for suffix in suffixes if prefix + suffix not in places]
            if not missing:
                return [places[prefix + suffix] for suffix in suffixes]
            nearest = missing if not nearest or len(missing) < len(nearest) else nearest
    missing = nearest or own_paths
    raise CheckpointError(
        f"{folder} lacks {len(missing)} of the {len(own_paths)} variables of the backbone, first {missing[0]!r}. "
        "Give a workdir whose run.yaml has the same backbone section."
    )


def _restore(folder: Path, group: str, variables: Sequence[keras.Variable]) -> None:
    saved = _read_description(folder)[group]
    own = [_describe(variable) for variable in variables]
    for theirs, ours in zip(saved, own, strict=False):
        if _name(theirs["path"]) != _name(ours["path"]):
            raise CheckpointError(
                f"{folder}: {group} variable {theirs['path']!r} was saved where this model has {ours['path']!r}. "
                "Start a new --workdir or use the run.yaml beside it."
            )
    _compare_shapes(folder, saved, variables)
    if len(saved) != len(own):
        extra = (saved if len(saved) > len(own) else own)[min(len(saved), len(own))]["path"]
        raise CheckpointError(
            f"{folder} was saved with {len(saved)} {group} variables, this run has {len(own)} (first difference: "
            f"{extra!r}). Start a new --workdir or use the run.yaml beside it."
        )
    for variable, value in zip(variables, _values(folder, group, range(len(saved))), strict=True):
        variable.assign(value)


def _compare_shapes(folder: Path, saved: Sequence[dict[str, Any]], variables: Sequence[keras.Variable]) -> None:
    for theirs, variable in zip(saved, variables, strict=False):
        if tuple(theirs["shape"]) != tuple(variable.shape):
            raise CheckpointError(
                f"{folder} was saved with shape {tuple(theirs['shape'])} of {theirs['path']!r}, this run says "
                f"{tuple(variable.shape)}. Start a new --workdir or use the run.yaml beside it."
            )


def _values(folder: Path, group: str, positions: Sequence[int]) -> Iterator[np.ndarray]:
    try:
        reader = tf.train.load_checkpoint(str(folder / "state"))
        for position in positions:
            yield reader.get_tensor(f"{group}/{position}/.ATTRIBUTES/VARIABLE_VALUE")
    except (OSError, ValueError, RuntimeError, tf.errors.OpError) as error:
        raise _damaged(folder, error) from error


def _read_description(folder: Path) -> dict[str, Any]:
    try:
        described: dict[str, Any] = json.loads((folder / "variables.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(folder, error) from error
    if described.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} has format version {described.get('format_version')}, this program reads {FORMAT_VERSION}. "
            "Use the version of kerasllm that wrote it."
        )
    for name, size in described["bytes"].items():
        found = (folder / name).stat().st_size if (folder / name).exists() else 0
        if found != size:
            raise _damaged(folder, ValueError(f"{name} has {found} of {size} bytes"))
    return described


def _read_metrics(folder: Path) -> dict[str, float]:
    try:
        metrics: dict[str, float] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # it counts as not evaluated; reading its state will name the damage
    return metrics


def _damaged(folder: Path, error: Exception) -> CheckpointError:
    """An error that names the older checkpoint to go back to: going back silently would hide lost work."""
    older = [one.folder for one in CheckpointFolder(folder.parent).all() if one.folder.name < folder.name]
    mend = f"Remove it to go on from {older[-1].name}." if older else "There is no older one: start a new --workdir."
    return CheckpointError(f"{folder} is damaged ({' '.join(str(error).split())}). {mend}")


def _describe(variable: keras.Variable) -> dict[str, Any]:
    return {"path": variable.path, "shape": [int(size) for size in variable.shape], "dtype": str(variable.dtype)}


def _name(path: str) -> str:
    """The last part of a path: Keras numbers layers and optimizers anew for each model made in a process."""
    return re.sub(r"_\d+", "", path.rsplit("/", 1)[-1])


def _force_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
