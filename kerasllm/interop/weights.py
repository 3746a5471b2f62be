"""How do arrays travel between our variables and foreign ones? By our own names, with every one accounted for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kerasllm.errors import CheckpointError


@dataclass(frozen=True)
class LoadReport:
    """What did not find a partner, though that is allowed.

    Attributes:
      new: our variables that keep their random start, for the source has no such head.
      unused: keys of the source that the model has no place for.
    """

    new: tuple[str, ...]
    unused: tuple[str, ...]


def slots(model: keras.Model) -> dict[str, Any]:
    """Our variables by their path below the model, for example `block_0/attention/output/kernel`."""
    return {variable.path.split("/", 1)[1]: variable for variable in model.weights}


def arrays(model: keras.Model) -> dict[str, np.ndarray]:
    """Copies of our variables in float32, by the names of `slots`."""
    return {name: np.asarray(variable.numpy(), np.float32) for name, variable in slots(model).items()}


def assign(
    model: keras.Model,
    values: Mapping[str, np.ndarray],
    source: str,
    optional: tuple[str, ...] = (),
    unused: tuple[str, ...] = (),
) -> LoadReport:
    """Copies arrays into a model's variables; all are compared before the first is written.

    Args:
      model: ours.
      values: arrays by our names; names that the model does not have are reported as unused.
      source: named in errors.
      optional: beginnings of the names that the source need not have.
      unused: keys of the source that were left aside already.

    Raises:
      CheckpointError: an array is missing or has another shape.
    """
    targets = slots(model)
    missing = [name for name in targets if name not in values]
    required = [name for name in missing if not name.startswith(optional)] if optional else missing
    if required:
        raise CheckpointError(f"{source}: no weights for {', '.join(required)}. The file is of another kind of model.")
    for name, variable in targets.items():
        if name in values and tuple(values[name].shape) != tuple(variable.shape):
            raise CheckpointError(
                f"{source}: {name} has shape {tuple(values[name].shape)}, the model's is {tuple(variable.shape)}. "
                f"Make the model from the folder's own configuration."
            )
    for name, variable in targets.items():
        if name in values:
            variable.assign(values[name])
    left = tuple(name for name in values if name not in targets)
    return LoadReport(new=tuple(missing), unused=(*unused, *left))
