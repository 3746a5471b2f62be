"""What does the assistant learn from dialogues? Three models, one after another, each in a workdir; no flags here."""

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from apps.customer_service import formats
from apps.customer_service.formats import Pair
from apps.text_classification import with_labels_of
from kerasllm import data, fine_tuning, retrieval, text, trained, training
from kerasllm.config import Run, part_of
from kerasllm.data import QueryPassages, join_pairs
from kerasllm.errors import ConfigError, DataError
from kerasllm.text.turns import query_texts

TASKS = {"intent": "text_classification", "matching": "text_matching", "reranking": "reranking"}  # by part, in order
NUM_MINED = 8  # negatives of each query, by its words and by the encoder each
KEPT = "data"  # folder of a workdir: the pairs, replies and slots that the index is built from


@dataclasses.dataclass(frozen=True)
class Start:
    """Where the models begin, and how much of the machine they take.

    Attributes:
      init_from: a pretraining workdir or a Hugging Face folder; None: random weights.
      tokenizer: folder of the vocabulary for random weights; None: one is learned from the training texts.
    """

    init_from: str | None = None
    tokenizer: str | None = None
    num_devices: int = 0


def train_part(name: str, application: Run, folder: Path, workdir: Path, start: Start) -> dict[str, Any]:
    """Trains one part of the assistant in workdir/name, or goes on there; returns the trainer's results.

    Args:
      name: intent, matching or reranking; re-ranking needs the trained matching part.
      application: the configuration with all parts.
      folder: that prepare wrote.
      workdir: of the assistant.
      start: where the weights come from.

    Raises:
      ConfigError: the part's configuration is wrong.
      DataError: the folder lacks what the part learns from.
    """
    keep_data(folder, workdir)
    run = run_of(name, application)
    tokenizer = start.tokenizer or (None if start.init_from else str(vocabulary(run, folder, workdir)))
    if name == "intent":
        return _train_intent(run, folder, workdir / name, dataclasses.replace(start, tokenizer=tokenizer))
    run, words = fine_tuning.starting_point(run, start.init_from, tokenizer)
    turns = run.assistant.context_turns
    train, validation = ((read_pairs(folder, part)) for part in ("train", "validation"))
    parts = tuple(_mined(query_passages(pairs, turns), pairs, words, run, workdir) for pairs in (train, validation))
    actions = [training.TensorBoard()]
    strategy = training.make_strategy(run.train.strategy, start.num_devices)
    return retrieval.tune(run, words, (parts[0], parts[1]), workdir / name, start.init_from, strategy, actions)


def run_of(name: str, application: Run) -> Run:
    """The run of one part, with its task."""
    run = part_of(application, name)
    return run.model_copy(update={"objective": run.objective.model_copy(update={"task": TASKS[name]})})


def read_pairs(folder: Path, part: str) -> list[Pair]:
    """The pairs of a part of a prepared folder.

    Raises:
      DataError: there are none.
    """
    path = folder / "pairs" / f"{part}.tsv"
    if not path.exists():
        raise DataError(f"{path}: no such file. Give prepare dialogues or pairs of question and reply.")
    return formats.read(f"pairs={path}").pairs


def query_passages(pairs: Sequence[Pair], context_turns: int) -> QueryPassages:
    """Pairs in the form that the matching models learn from: queries with their context, distinct replies."""
    return join_pairs(queries_of(pairs, context_turns), [pair.reply for pair in pairs])


def queries_of(pairs: Sequence[Pair], context_turns: int) -> list[str]:
    """What the served assistant would search with."""
    questions, contexts = (tf.constant(column, tf.string, [len(pairs)]) for column in (
        [pair.question for pair in pairs], [pair.context for pair in pairs]
    ))  # fmt: skip
    return [query.decode() for query in query_texts(questions, contexts, context_turns).numpy()]


def replies_of_intents(pairs: Sequence[Pair]) -> dict[str, set[str]]:
    """Intent -> the replies that were given to it."""
    found: dict[str, set[str]] = {}
    for pair in pairs:
        found.setdefault(pair.intent, set()).add(pair.reply)
    return found


def keep_data(folder: Path, workdir: Path) -> None:
    """Copies what the index needs into the workdir, once.

    Raises:
      DataError: the folder is none that prepare wrote, or cannot be copied.
    """
    if (workdir / KEPT).exists():
        return
    if not (folder / "slots.yaml").exists():
        raise DataError(
            f"{folder}: has no slots.yaml. Give --data the folder that apps.customer_service.prepare wrote."
        )
    unfinished = workdir / f".{KEPT}.unfinished"
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(folder, unfinished)
        unfinished.rename(workdir / KEPT)
    except OSError as error:
        raise DataError(f"{workdir}: cannot be written ({error.strerror}). Give another --workdir.") from None


def vocabulary(run: Run, folder: Path, workdir: Path) -> Path:
    """The folder of a vocabulary learned from the training texts, once."""
    target = workdir / "vocabulary"
    if not (target / "tokenizer.yaml").exists():
        texts = [words for pair in read_pairs(folder, "train") for words in (pair.context, pair.question, pair.reply)]
        if (folder / "intents" / "train.tsv").exists():
            texts += [row["text"] for _, row in data.read_columns(folder / "intents" / "train.tsv", ["text"])]
        text.train_wordpiece(texts, run.tokenizer.vocab_size, run.tokenizer.lowercase).save(target)
    return target


def _train_intent(run: Run, folder: Path, workdir: Path, start: Start) -> dict[str, Any]:
    table = folder / "intents" / "train.tsv"
    if not table.exists():
        raise DataError(f"{table}: no such file. Give prepare questions with intents.")
    run, tokenizer = fine_tuning.starting_point(with_labels_of(run, table), start.init_from, start.tokenizer)
    train, validation = (
        data.read_labelled(table.with_name(f"{part}.tsv"), run.data) for part in ("train", "validation")
    )
    actions = [training.TensorBoard(make_images=fine_tuning.confusion_images(validation, run, tokenizer))]
    strategy = training.make_strategy(run.train.strategy, start.num_devices)
    return fine_tuning.fine_tune(run, tokenizer, (train, validation), workdir, start.init_from, strategy, actions)


def _mined(
    table: QueryPassages, pairs: Sequence[Pair], tokenizer: text.Tokenizer, run: Run, workdir: Path
) -> QueryPassages:
    """The table with hard negatives: by words, and for the re-ranker by the trained encoder too."""
    if not run.matching.hard_negatives:
        return table
    mined = retrieval.mine_by_words(table, tokenizer, NUM_MINED)
    if run.objective.task == "reranking":
        if not (workdir / "matching" / "run.yaml").exists():
            raise ConfigError(f"{workdir}: re-ranking learns from what matching finds. Train --part matching first.")
        encoder = trained.load(workdir / "matching")
        mined = retrieval.join_negatives(retrieval.mine_by_encoder(table, encoder, NUM_MINED), mined)
    if run.assistant.right_when == "same_intent":
        mined = dataclasses.replace(mined, negatives=_without_right_ones(mined, pairs))
    return mined


def _without_right_ones(table: QueryPassages, pairs: Sequence[Pair]) -> np.ndarray:
    """The negatives with -1 in place of replies that answer the same intent."""
    by_intent = replies_of_intents(pairs)
    answers = [by_intent[pair.intent] if pair.intent else {pair.reply} for pair in pairs]
    rows = [
        [place if place >= 0 and table.passages[place] not in right else -1 for place in row]
        for row, right in zip(table.negatives.tolist(), answers, strict=True)
    ]
    return np.array(rows, np.int32).reshape(table.negatives.shape)
