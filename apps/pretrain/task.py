"""What is pretraining's own? Its trainer and batches, what a new model knows, the texts that it writes on the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from kerasllm.config import Run
    from kerasllm.data import Corpus, Split, Tables
    from kerasllm.training import Action, Trainer

NUM_SAMPLES = 4
PROMPT_TOKENS = 16
NEW_TOKENS = 32


def make_trainer(
    run: Run, corpus: Corpus, workdir: str | Path, strategy: tf.distribute.Strategy, actions: Sequence[Action] = ()
) -> Trainer:
    """The trainer of a pretraining, with all that it writes for TensorBoard.

    Raises:
      ConfigError: as Trainer does.
    """
    from kerasllm import losses, models, training

    return training.Trainer(
        lambda: models.from_run(run, corpus.tokenizer.vocab_size),
        losses.heads_for(run),
        run,
        workdir,
        strategy,
        actions=[
            training.TensorBoard(make_texts=text_samples(corpus, run)),
            training.EmbeddingProjector(corpus.tokenizer.words, lambda model: model.backbone.word_table),
            *actions,
        ],
        initialize=initializer(corpus, run),
    )


def read_tables(specs: Sequence[str], run: Run) -> dict[str, Tables]:
    """The labelled texts of run.mix, from `NAME=FOLDER` of each.

    Raises:
      ConfigError, DataError: a specification is of another form, or as kerasllm.data.read_tables.
    """
    from kerasllm import data
    from kerasllm.errors import ConfigError

    for spec in specs:
        if not all(spec.partition("=")):
            raise ConfigError(f"--labelled {spec}: expected NAME=FOLDER, for example inference=data/ocnli.")
    return data.read_tables({name: folder for name, _, folder in (spec.partition("=") for spec in specs)}, run)


def fit(trainer: Trainer, corpus: Corpus, tables: Mapping[str, Tables] | None = None) -> dict[str, Any]:
    """Trains and evaluates on a corpus, and on the tables of run.mix; arguments and results as of Trainer.fit."""
    from kerasllm import data

    run, train = trainer.run, corpus.split("train")
    steps = data.mixed_steps_per_epoch if run.mix else data.steps_per_epoch
    return trainer.fit(
        batches_from=lambda step: _batches(train, run, tables, step),
        total_steps=run.train.total_steps(steps(train, run)),
        evaluation_batches=lambda: held_out_batches(corpus, run, tables),
    )


def held_out_batches(corpus: Corpus, run: Run, tables: Mapping[str, Tables] | None = None) -> tf.data.Dataset:
    """What a run is judged by."""
    return _batches(corpus.split("held_out"), run, tables, 0)


def _batches(split: Split, run: Run, tables: Mapping[str, Tables] | None, step: int) -> tf.data.Dataset:
    from kerasllm import data

    if not run.mix:
        return data.pretraining_batches(split, run, start_step=step)
    return data.mixed_batches(split, tables if tables is not None else data.read_tables({}, run), run, start_step=step)


def initializer(corpus: Corpus, run: Run) -> Callable[[keras.Model], None] | None:
    """A function that tells a new BERT how frequent the words are; None for GPT, which has no place for it."""
    if run.objective.task != "bert_pretraining":
        return None

    def initialize(model: keras.Model) -> None:
        special = [number for number in dataclasses.astuple(corpus.tokenizer.special) if number >= 0]
        model.start_from_counts(corpus.split("train").token_counts(), special)

    return initialize


def text_samples(corpus: Corpus, run: Run) -> Callable[[keras.Model, int], dict[str, str]]:
    """A function of (model, step) that returns Markdown by name: filled-in masks, or continued prompts."""
    return _filled_masks(corpus, run) if run.objective.task == "bert_pretraining" else _continuations(corpus, run)


def _filled_masks(corpus: Corpus, run: Run) -> Callable[[keras.Model, int], dict[str, str]]:
    import numpy as np

    from kerasllm import data

    batch = next(iter(data.pretraining_batches(corpus.split("held_out"), run)))
    batch = {name: values[:NUM_SAMPLES] for name, values in batch.items()}
    words = corpus.tokenizer.words

    def sample(model: keras.Model, step: int) -> dict[str, str]:
        guesses = np.argmax(model(batch)["masked_lm_logits"], axis=-1)
        lines = ["| text | guessed (true) |", "| --- | --- |"]
        for row, guessed in enumerate(guesses):
            real = np.asarray(batch["masked_weights"][row]) > 0
            truth = np.asarray(batch["masked_labels"][row])
            pairs = [f"{words[g]} ({words[t]})" for g, t in zip(guessed[real], truth[real], strict=True)]
            tokens = np.asarray(batch["token_ids"][row])[np.asarray(batch["sequence_ids"][row]) > 0]
            lines.append(f"| {_cell(' '.join(words[i] for i in tokens))} | {_cell(', '.join(pairs))} |")
        return {"filled_masks": "\n".join(lines)}

    return sample


def _continuations(corpus: Corpus, run: Run) -> Callable[[keras.Model, int], dict[str, str]]:
    import numpy as np
    import tensorflow as tf

    from kerasllm import data, models

    longest = run.backbone.max_length
    prompt_tokens = min(PROMPT_TOKENS, longest // 3)
    new_tokens = min(NEW_TOKENS, longest - prompt_tokens)
    batch = next(iter(data.pretraining_batches(corpus.split("held_out"), run)))
    prompts = np.asarray(batch["token_ids"])[:NUM_SAMPLES, :prompt_tokens]

    def sample(model: keras.Model, step: int) -> dict[str, str]:
        ids = np.asarray(
            models.sample_continuations(model, prompts, new_tokens, temperature=0.8, top_k=40, seed=run.seed)
        )
        texts = [
            [text.numpy().decode() for text in corpus.tokenizer.detokenize(tf.ragged.constant(part.tolist()))]
            for part in (ids[:, :prompt_tokens], ids[:, prompt_tokens:])
        ]
        rows = [f"| {_cell(prompt)} | {_cell(continued)} |" for prompt, continued in zip(*texts, strict=True)]
        return {"continuations": "\n".join(["| prompt | continued |", "| --- | --- |", *rows])}

    return sample


def _cell(text: str) -> str:
    """Keeps a text inside one cell of a Markdown table."""
    return " ".join(text.replace("|", "\\|").split())
