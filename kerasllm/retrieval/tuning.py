"""How is a dual encoder or a re-ranker made from a pretrained encoder?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from kerasllm import data, models, training
from kerasllm.config import Run
from kerasllm.data import QueryPassages
from kerasllm.errors import ConfigError
from kerasllm.fine_tuning import starting_point, train_from, weights_from
from kerasllm.text import Tokenizer
from kerasllm.trained import Trained

BATCHES = {"text_matching": data.matching_batches, "reranking": data.reranking_batches}  # by objective.task


def untuned(run: Run, init_from: str | None, tokenizer_folder: str | None = None) -> Trained:
    """The model of a run before its first step, in float32: a baseline, and what first negatives are mined with.

    Args:
      run: of the task text_matching or reranking.
      init_from: a pretraining workdir or a Hugging Face folder; None: random weights.
      tokenizer_folder: holds the vocabulary when the weights are random.

    Raises:
      ConfigError: as fine_tuning.starting_point does.
    """
    run, tokenizer = starting_point(run, init_from, tokenizer_folder)
    model = models.from_run(run.in_float32(), tokenizer.vocab_size)
    initialize = weights_from(init_from)
    if initialize is not None:
        initialize(model)
    return Trained(run, tokenizer, model)


def tune(
    run: Run,
    tokenizer: Tokenizer,
    parts: tuple[QueryPassages, QueryPassages],
    workdir: str | Path,
    init_from: str | None,
    strategy: tf.distribute.Strategy | None = None,
    actions: Sequence[training.Action] = (),
) -> dict[str, Any]:
    """Trains the dual encoder (task text_matching) or the re-ranker (reranking) in `workdir`, or goes on there.

    On several devices each replica takes the negatives of its own rows only, so that more of them need a larger batch.

    Args:
      run: with the backbone of the starting point.
      tokenizer: copied into the workdir.
      parts: training pairs and validation pairs; their `negatives`, as mined, are used.
      workdir: folder of the run.
      init_from: where the backbone's weights come from; None for random weights.
      strategy: from `training.make_strategy`; None: the one of train.strategy, with all devices.
      actions: what else happens on the way.

    Returns: the trainer's results.

    Raises:
      ConfigError: the run is of another task.
    """
    if run.objective.task not in BATCHES:
        raise ConfigError(f"objective.task={run.objective.task!r}; pairs teach {' or '.join(BATCHES)}.")
    make_batches, (train, validation) = BATCHES[run.objective.task], parts
    return train_from(
        run,
        tokenizer,
        workdir,
        init_from,
        lambda step: make_batches(train, tokenizer, run, training=True, start_step=step),
        data.batches_per_epoch(train, run, training=True),
        lambda: make_batches(validation, tokenizer, run, training=False),
        strategy,
        actions,
    )
