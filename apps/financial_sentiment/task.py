"""What is fine-tuned, from what, and how is it judged? No flags here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasllm.config import Backbone, Run, load_run, make_run
from kerasllm.errors import ConfigError

if TYPE_CHECKING:
    import keras

    from kerasllm.data import LabelledTexts
    from kerasllm.text import Tokenizer
    from kerasllm.training import Action


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
    from kerasllm import interop, text

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


def fine_tune(
    run: Run,
    tokenizer: Tokenizer,
    parts: tuple[LabelledTexts, LabelledTexts],
    workdir: str | Path,
    init_from: str | None,
    num_devices: int = 0,
    actions: Sequence[Action] = (),
) -> dict[str, Any]:
    """Trains the classifier in `workdir`, or goes on there; returns the trainer's results.

    Args:
      run: with the backbone of the starting point.
      tokenizer: copied into the workdir.
      parts: training texts and validation texts.
      workdir: folder of the run.
      init_from: where the backbone's weights come from; None for random weights.
      num_devices: of the mirrored strategy; 0: all.
      actions: what else happens on the way.
    """
    from kerasllm import data, losses, models, training

    train, validation = parts
    trainer = training.Trainer(
        lambda: models.from_run(run, tokenizer.vocab_size),
        losses.heads_for(run),
        run,
        workdir,
        strategy=training.make_strategy(run.train.strategy, num_devices),
        actions=actions,
        initialize=_weights_from(init_from),
    )
    tokenizer.save(trainer.workdir.tokenizer)
    return trainer.fit(
        batches_from=lambda step: data.labelled_batches(train, tokenizer, run, training=True, start_step=step),
        total_steps=run.train.total_steps(data.labelled_steps_per_epoch(train, run, training=True)),
        evaluation_batches=lambda: data.labelled_batches(validation, tokenizer, run, training=False),
    )


def confusion_image(examples: LabelledTexts, run: Run, tokenizer: Tokenizer) -> Callable[..., dict[str, bytes]]:
    """A function of (model, step) that draws the confusion matrix of `examples`, for TensorBoard."""
    from kerasllm import metrics, training
    from kerasllm.trained import Trained, classify

    def draw(model: keras.Model, step: int) -> dict[str, bytes]:
        predicted = classify(Trained(run, tokenizer, model), examples.texts).argmax(axis=-1)
        counts = metrics.confusion_matrix(examples.labels, predicted, len(run.data.labels))
        return {"confusion_matrix": training.confusion_picture(counts, run.data.labels)}

    return draw


def _weights_from(folder: str | None) -> Callable[[keras.Model], None] | None:
    """A function that loads the pretrained backbone into a new classifier; None for random weights."""
    if folder is None:
        return None
    from kerasllm import interop, training

    def initialize(model: keras.Model) -> None:
        if (Path(folder) / "run.yaml").exists():
            training.load_backbone(model.backbone, folder)
        else:
            interop.load_into(model.backbone, folder)

    return initialize


def _with(run: Run, tokenizer: dict[str, Any], backbone: Backbone) -> Run:
    dropout = {name: getattr(run.backbone, name) for name in ("dropout", "attention_dropout")}
    tree = run.model_dump() | {"tokenizer": tokenizer, "backbone": backbone.model_dump() | dropout}
    return make_run(tree, source="the backbone it starts from")
