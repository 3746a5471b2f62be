"""What is pretraining's own? What a new model knows before its first step, and the texts that it writes on the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

    from kerasllm.config import Run
    from kerasllm.data import Corpus

NUM_SAMPLES = 4
PROMPT_TOKENS = 16
NEW_TOKENS = 32


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

    batch = next(iter(data.pretraining_batches(corpus.split("held_out"), run)))
    prompts = np.asarray(batch["token_ids"])[:NUM_SAMPLES, :PROMPT_TOKENS]

    def sample(model: keras.Model, step: int) -> dict[str, str]:
        ids = np.asarray(
            models.sample_continuations(model, prompts, NEW_TOKENS, temperature=0.8, top_k=40, seed=run.seed)
        )
        texts = [
            [text.numpy().decode() for text in corpus.tokenizer.detokenize(tf.ragged.constant(part.tolist()))]
            for part in (ids[:, :PROMPT_TOKENS], ids[:, PROMPT_TOKENS:])
        ]
        rows = [f"| {_cell(prompt)} | {_cell(continued)} |" for prompt, continued in zip(*texts, strict=True)]
        return {"continuations": "\n".join(["| prompt | continued |", "| --- | --- |", *rows])}

    return sample


def _cell(text: str) -> str:
    """Keeps a text inside one cell of a Markdown table."""
    return " ".join(text.replace("|", "\\|").split())
