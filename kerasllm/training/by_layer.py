"""Which layers learn, how fast, and from when on?"""

import difflib
import re
from collections.abc import Sequence

import keras

from kerasllm.errors import ConfigError

# L blocks; depths: 0 = embeddings, 1 ... L = blocks from below, L + 1 = whatever stands above them


def layer_shares(model: keras.Model, decay: float) -> tuple[float, ...]:
    """Share of the learning rate of each trainable variable: decay^(L + 1 - depth).

    It is 1 above the blocks and less by the factor `decay` with each layer down.

    Source: Howard & Ruder 2018, section 3.2, discriminative fine-tuning (rate of a layer = rate of the next / 2.6).
    """
    depths = layer_depths(model)
    return tuple(decay ** (top_depth(model) - depth) for depth in depths)


def layer_starts(model: keras.Model, last_start: float) -> tuple[int, ...]:
    """First step in which each trainable variable learns: round(last_start * (top - depth) / top), where top = L + 1.

    What stands above the blocks learns from step 0 (where nothing does, the highest layer), then one layer after
    another from the top, and the embeddings from step `last_start`. Until then a layer costs no gradient and no update.

    Source: Howard & Ruder 2018, section 3.3, gradual unfreezing.
    """
    depths = layer_depths(model)
    top = max(depths)
    return tuple(round(last_start * (top - depth) / max(top, 1)) for depth in depths)


def layer_depths(model: keras.Model) -> list[int]:
    """Depth of each trainable variable."""
    top = top_depth(model)

    def depth(path: str) -> int:
        block = _block(path)
        if block is not None:
            return block + 1
        return 0 if "/backbone/" in path and "embedding" in path else top

    return [depth(f"/{variable.path}") for variable in model.trainable_variables]


def top_depth(model: keras.Model) -> int:
    """L + 1."""
    blocks = (_block(f"/{variable.path}") for variable in model.variables)
    return 2 + max((block for block in blocks if block is not None), default=-1)


def freeze(model: keras.Model, names: Sequence[str]) -> None:
    """Makes variables not trainable whose path holds one of the names as whole parts (`block_1` is not `block_10`).

    Raises:
      ConfigError: a name is no variable's, or nothing is left to learn.
    """
    for name in names:
        found = [variable for variable in model.variables if f"/{name}/" in f"/{variable.path}/"]
        if not found:
            raise ConfigError(f"optimizer.frozen: no variable's path holds {name!r}. {_nearest(model, name)}")
        for variable in found:
            variable.trainable = False
    if not model.trainable_variables:
        raise ConfigError("optimizer.frozen leaves no variable to learn. Name fewer of them.")


def _block(path: str) -> int | None:
    match = re.search(r"/backbone/(?:.*/)?block_(\d+)/", path)
    return int(match[1]) if match else None


def _nearest(model: keras.Model, name: str) -> str:
    parts = {part for variable in model.variables for part in variable.path.split("/")}
    nearest = difflib.get_close_matches(name.split("/")[-1], sorted(parts), n=3, cutoff=0.0)
    return f"Near to it: {', '.join(nearest)}."
