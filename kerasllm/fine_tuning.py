"""How does a pretrained model learn a task? Its start, its training, and the decisions fitted after it."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasllm import data, interop, losses, models, text, training
from kerasllm.config import Backbone, Run, load_run, make_run
from kerasllm.data import Dialogue, LabelledTexts, LearnedReplies
from kerasllm.decisions import ClassDecision, fit_scope, write_decisions
from kerasllm.errors import ConfigError
from kerasllm.evaluation import pictures
from kerasllm.text import Tokenizer
from kerasllm.trained import DECISIONS_FILE, Trained, load, score


def starting_point(run: Run, folder: str | None, tokenizer_folder: str | None) -> tuple[Run, Tokenizer]:
    """The run with the backbone and tokenizer sections of what it starts from, and that tokenizer.

    Dropout stays the run's own: how much a small labelled set needs is not the pretraining's to say.

    Args:
      run: of the fine-tuning.
      folder: a pretraining workdir, a Hugging Face folder, or None to start from random weights.
      tokenizer_folder: holds the vocabulary when the weights are random.

    Raises:
      ConfigError: neither is given, or the folder is of neither kind.
    """
    if folder is None:
        if tokenizer_folder is None:
            raise ConfigError("give --init_from (a pretraining workdir or a Hugging Face folder), or --tokenizer.")
        return run, text.load_tokenizer(tokenizer_folder)
    path = Path(folder)
    if (path / "run.yaml").exists():
        source = load_run(path / "run.yaml")
        return _with(run, source.tokenizer.model_dump(), source.backbone), text.load_tokenizer(path / "tokenizer")
    if (path / "config.json").exists():
        tokenizer = interop.read_tokenizer(path)
        settings = {"kind": "wordpiece", "lowercase": tokenizer.lowercase, "vocab_size": tokenizer.vocab_size}
        return _with(run, settings, interop.backbone_config(path)), tokenizer
    raise ConfigError(
        f"{folder}: neither a workdir of apps.pretrain.train (run.yaml) nor a Hugging Face folder (config.json)."
    )


def weights_from(folder: str | None) -> Callable[[keras.Model], None] | None:
    """A function that loads the pretrained backbone into a new model's `backbone`; None for random weights."""
    if folder is None:
        return None

    def initialize(model: keras.Model) -> None:
        if (Path(folder) / "run.yaml").exists():
            training.load_backbone(model.backbone, folder)
        else:
            interop.load_into(model.backbone, folder)

    return initialize


def fine_tune(
    run: Run,
    tokenizer: Tokenizer,
    parts: tuple[LabelledTexts, LabelledTexts],
    workdir: str | Path,
    init_from: str | None,
    strategy: tf.distribute.Strategy | None = None,
    actions: Sequence[training.Action] = (),
) -> dict[str, Any]:
    """Trains the classifier in `workdir`, or goes on there, and fits its decisions; returns the trainer's results.

    Args:
      run: with the backbone of the starting point.
      tokenizer: copied into the workdir.
      parts: training texts and validation texts.
      workdir: folder of the run.
      init_from: where the backbone's weights come from; None for random weights.
      strategy: from `training.make_strategy`; None: the one of train.strategy, with all devices.
      actions: what else happens on the way.
    """
    train, validation = parts
    results = train_from(
        run,
        tokenizer,
        workdir,
        init_from,
        lambda step: data.labelled_batches(train, tokenizer, run, training=True, start_step=step),
        data.batches_per_epoch(train, run, training=True),
        lambda: data.labelled_batches(validation, tokenizer, run, training=False),
        strategy,
        actions,
    )
    if not results["stopped"] and (strategy is None or training.is_chief(strategy)):
        write_decisions(Path(workdir) / DECISIONS_FILE, fit_decisions(load(workdir), validation))
    return results


def tune_on_dialogues(
    run: Run,
    tokenizer: Tokenizer,
    parts: tuple[Sequence[Dialogue], Sequence[Dialogue]],
    workdir: str | Path,
    init_from: str | None,
    strategy: tf.distribute.Strategy | None = None,
    actions: Sequence[training.Action] = (),
) -> dict[str, Any]:
    """Trains a GPT to say the replies of dialogues; returns the trainer's results.

    The arguments are those of `fine_tune`: a run of task dialogue, and training and validation dialogues as its parts.
    """
    train, validation = (data.learned_replies(part, tokenizer, run) for part in parts)
    return tune_on_replies(run, tokenizer, (train, validation), workdir, init_from, strategy, actions)


def tune_on_replies(
    run: Run,
    tokenizer: Tokenizer,
    parts: tuple[LearnedReplies, LearnedReplies],
    workdir: str | Path,
    init_from: str | None,
    strategy: tf.distribute.Strategy | None = None,
    actions: Sequence[training.Action] = (),
) -> dict[str, Any]:
    """Trains a GPT to say replies behind their prompts; arguments as in `tune_on_dialogues`, parts as token ids."""
    train, validation = parts
    return train_from(
        run,
        tokenizer,
        workdir,
        init_from,
        lambda step: data.reply_batches(train, run, training=True, start_step=step),
        data.reply_steps_per_epoch(train, run, training=True),
        lambda: data.reply_batches(validation, run, training=False),
        strategy,
        actions,
    )


def train_from(
    run: Run,
    tokenizer: Tokenizer,
    workdir: str | Path,
    init_from: str | None,
    batches_from: Callable[[int], tf.data.Dataset],
    steps_per_epoch: int,
    evaluation_batches: Callable[[], tf.data.Dataset],
    strategy: tf.distribute.Strategy | None = None,
    actions: Sequence[training.Action] = (),
) -> dict[str, Any]:
    """Trains the model of any task on a pretrained backbone; arguments as in `fine_tune` and Trainer.fit."""
    trainer = training.Trainer(
        lambda: models.from_run(run, tokenizer.vocab_size),
        losses.heads_for(run),
        run,
        workdir,
        strategy or training.make_strategy(run.train.strategy),
        actions=actions,
        initialize=weights_from(init_from),
    )
    if trainer.is_chief:
        tokenizer.save(trainer.workdir.tokenizer)
    return trainer.fit(batches_from, run.train.total_steps(steps_per_epoch), evaluation_batches)


def fit_decisions(trained: Trained, validation: LabelledTexts) -> dict[str, ClassDecision]:
    """What is concluded from the logits of each head, fitted on texts that the model was not trained on."""
    logits = score(trained, validation.texts, validation.second)
    decisions = {}
    for head, labels in validation.labels.items():
        settings, classes, found = trained.run.decisions, np.array(labels), logits[head]
        is_in = classes >= 0
        decision = ClassDecision.fit(found[is_in], classes[is_in], settings)
        if trained.run.data.out_of_scope_label and is_in.any():
            told = classes != data.NO_LABEL
            kind, below = fit_scope(found[told], is_in[told], decision.temperature, settings.rejected_share)
            decision = dataclasses.replace(decision, scope_score=kind, scope_below=below)
        decisions[head] = decision
    return decisions


def confusion_images(examples: LabelledTexts, run: Run, tokenizer: Tokenizer) -> Callable[..., dict[str, bytes]]:
    """A function of (model, step) that draws each head's confusion matrix of `examples`, for TensorBoard."""

    def draw(model: keras.Model, step: int) -> dict[str, bytes]:
        trained = Trained(run, tokenizer, model)
        return pictures(trained, examples, score(trained, examples.texts, examples.second))

    return draw


def _with(run: Run, tokenizer: dict[str, Any], backbone: Backbone) -> Run:
    dropout = {name: getattr(run.backbone, name) for name in ("dropout", "attention_dropout")}
    tree = run.model_dump() | {"tokenizer": tokenizer, "backbone": backbone.model_dump() | dropout}
    return make_run(tree, source="the backbone it starts from")
