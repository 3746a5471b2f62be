"""How is a recommender trained, kept, loaded and asked? Its workdir also holds the catalogue, the log and the encoder.

WORKDIR/run.yaml, checkpoints/   as of every run
WORKDIR/encoder/                 the text encoder, a workdir of its own
WORKDIR/catalogue/               items.jsonl, events.tsv, text.npy, tables.npz: made anew without training by `rebuild`
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kerasllm import losses, retrieval, trained, training
from kerasllm.config import Run, load_run, make_run
from kerasllm.data.interactions import (
    Catalogue,
    Events,
    read_catalogue,
    read_events,
    refuse_future,
    write_catalogue,
    write_events,
)
from kerasllm.data.item_tables import ItemTables, Popularity, load_tables, make_tables
from kerasllm.data.next_items import NextItems, levels, liked_places
from kerasllm.errors import CheckpointError, DataError
from kerasllm.export.recommender import ItemNames, RecommenderSignatures, write_recommender
from kerasllm.models.recommendation import Recommender

# U users, T history, I items

USERS_AT_ONCE = 32


@dataclasses.dataclass(frozen=True)
class TrainedRecommender:
    """What a recommender's workdir holds, ready to use.

    Attributes:
      encoder: of the items' texts.
      catalogue, events: the items and what is known of the users.
      tables: what was computed from these two.
    """

    run: Run
    encoder: trained.Trained
    catalogue: Catalogue
    events: Events
    tables: ItemTables
    model: Recommender


def make_encoder(run: Run, init_from: str | None, tokenizer: str | None = None) -> trained.Trained:
    """The text encoder of the items, from a workdir, a Hugging Face folder, or with random weights.

    Raises:
      ConfigError: neither `init_from` nor `tokenizer` is given, or the folder is of no known kind.
    """
    tree = {
        "seed": run.seed,
        "objective": {"task": "text_matching", "pooling": "mean"},
        "matching": {"passage_length": run.recommendation.text_length},
    }
    return retrieval.untuned(make_run(tree, "the text encoder"), init_from, tokenizer)


def fit(
    run: Run,
    catalogue: Catalogue,
    parts: dict[str, Events],
    encoder: trained.Trained,
    workdir: str | os.PathLike[str],
    num_devices: int = 0,
    actions: Sequence[training.Action] = (),
) -> dict[str, Any]:
    """Trains a recommender in `workdir`, or goes on there; returns the trainer's results.

    Args:
      run: with recommendation.train_on_validation nothing is held out, and the newest checkpoint is the best.
      catalogue: all items; those without events in the log are seen by their text alone.
      parts: "train" and "validation", from `data.interactions.split_by_time`.
      encoder: of the items' texts; it is not trained.
      workdir: folder of the run.
      num_devices: of the mirrored strategy; 0: all.
      actions: what else happens on the way.

    Raises:
      DataError: there is no liked event to learn from, or the future leaks into the train part.
    """
    validation = parts["validation"]
    refuse_future(parts["train"], validation, "train and validation")
    everything = parts["train"].with_events(validation)
    log = everything if run.recommendation.train_on_validation else parts["train"]
    targets = liked_places(log, run.recommendation)
    if not len(targets):
        raise DataError(
            f"no event of the train part has a value of {run.recommendation.positive_from} or more. "
            "Set recommendation.positive_from to what counts as liked."
        )
    folder = training.prepare_workdir(workdir, run)
    if not (folder.path / "encoder" / "run.yaml").exists():
        trained.save(folder.path / "encoder", encoder.run, encoder.tokenizer, encoder.model)
    text = retrieval.embed_texts(encoder, catalogue.texts, "passage")
    tables = make_tables(catalogue, log, text, run.recommendation)
    _write_catalogue(folder.path, catalogue, log, text, tables)
    examples = NextItems(log, targets, catalogue, tables, run, training=True)
    evaluation = None
    if not run.recommendation.train_on_validation and len(validation):
        held = liked_places(everything, run.recommendation)
        held = held[_is_later(everything, parts["train"])[held]]
        evaluation = NextItems(everything, held, catalogue, tables, run, training=False).batches
    trainer = training.Trainer(
        lambda: Recommender(run, dataclasses.asdict(tables), tables.num_trained, name="recommender"),
        losses.heads_for(run),
        run,
        workdir,
        strategy=training.make_strategy(run.train.strategy, num_devices),
        actions=actions,
    )
    return trainer.fit(examples.batches, run.train.total_steps(examples.steps_per_epoch), evaluation)


def load(workdir: str | os.PathLike[str], which: str = "best") -> TrainedRecommender:
    """Loads a workdir of `fit`, to compute in float32 whatever it was trained in.

    Raises:
      CheckpointError: the folder is none of a recommender, or something in it is damaged.
    """
    path = Path(workdir)
    if not (path / "catalogue").exists():
        raise CheckpointError(f"{path} has no catalogue/. Give the --workdir of apps.recommendation.train.")
    run = load_run(path / "run.yaml")
    tables = load_tables(path / "catalogue" / "tables.npz")
    catalogue = read_catalogue(path / "catalogue" / "items.jsonl")
    model = Recommender(run.in_float32(), dataclasses.asdict(tables), tables.num_trained, name="recommender")
    training.restore_weights(model, path, which)
    events = read_events(path / "catalogue" / "events.tsv", catalogue)
    return TrainedRecommender(run, trained.load(path / "encoder"), catalogue, events, tables, model)


def rebuild(workdir: str | os.PathLike[str], items: Catalogue | None, events: Events | None) -> TrainedRecommender:
    """Takes new items and newer events into the catalogue of a workdir, without training.

    Args:
      workdir: of `fit`.
      items: more items; what the catalogue has already stays as it is.
      events: more events, whose item indices are those of the old catalogue with `items` behind it.
    """
    path, old = Path(workdir), load(workdir)
    text = np.load(path / "catalogue" / "text.npy")
    catalogue = old.catalogue if items is None else old.catalogue.with_items(items)
    if len(catalogue) > len(text):
        new = retrieval.embed_texts(old.encoder, catalogue.texts[len(text) :], "passage")
        text = np.concatenate([text, new])
    log = old.events if events is None else old.events.with_events(events)
    tables = make_tables(catalogue, log, text, old.run.recommendation, trained=old.tables)
    _write_catalogue(path, catalogue, log, text, tables)
    return load(workdir)


def histories(recommender: TrainedRecommender, log: Events, users: Sequence[str]) -> dict[str, np.ndarray]:
    """What the model is given of users: history and history_levels [U, T] int32, and side [U, I, 4] as of then.

    The moment is a user's newest event in `log`, or the end of the log for a user without any.
    """
    settings = recommender.run.recommendation
    length = settings.history_length
    rows = np.zeros([2, len(users), length], np.int32)
    now = np.zeros(len(users), np.int64)
    end = int(log.times.max()) + 1 if len(log) else 0
    for place, user in enumerate(users):
        own = log.of_user(user)
        numbers, own_levels = own.items[-length:] + 1, levels(own.values[-length:], settings)
        rows[:, place, : len(numbers)] = numbers, own_levels
        now[place] = own.times[-1] if len(own) else end
    popularity = Popularity(log, recommender.catalogue, settings.recent_days, recommender.tables.num_trained)
    numbers = np.arange(1, len(recommender.catalogue) + 1)[None]
    side = np.concatenate([popularity.features(numbers, now[place : place + 1, None]) for place in range(len(users))])
    return {"history": rows[0], "history_levels": rows[1], "side": side}


def score_users(
    recommender: TrainedRecommender, users: Sequence[str], log: Events | None = None, as_new: np.ndarray | None = None
) -> np.ndarray:
    """Scores [U, I] float32 of all items for users, from what `log` (the recommender's own) knows of them.

    `as_new` marks items [I] that are to be scored by their text alone.
    """
    given = histories(recommender, recommender.events if log is None else log, users)
    is_cold = recommender.tables.is_cold[1:] if as_new is None else np.maximum(recommender.tables.is_cold[1:], as_new)
    numbers = np.arange(1, len(recommender.catalogue) + 1, dtype=np.int32)
    compute = tf.function(lambda inputs: recommender.model(inputs)["logits"], reduce_retracing=True)
    scores = []
    for start in range(0, len(users), USERS_AT_ONCE):
        part = {key: array[start : start + USERS_AT_ONCE] for key, array in given.items()}
        size = len(part["history"])
        part["candidates"] = np.broadcast_to(numbers, [size, len(numbers)])
        part["is_cold"] = np.broadcast_to(is_cold, [size, len(numbers)]).astype(np.float32)
        scores.append(compute({key: tf.constant(array) for key, array in part.items()}).numpy())
    return np.concatenate(scores) if scores else np.zeros([0, len(numbers)], np.float32)


def history_text(recommender: TrainedRecommender, user: str) -> str:
    """A user's log as the served signatures take it: `id:value,id:value,...`, the oldest first."""
    own = recommender.events.of_user(user)
    ids = recommender.catalogue.ids
    return ",".join(f"{ids[item]}:{value:g}" for item, value in zip(own.items, own.values, strict=True))


def signatures_of(recommender: TrainedRecommender) -> RecommenderSignatures:
    """What can be asked of the recommender, in this process or exported."""
    encoder = recommender.encoder
    return RecommenderSignatures(
        recommender.model,
        retrieval.text_encoder(encoder, "passage"),
        [*(variable.value for variable in encoder.model.weights), *encoder.tokenizer.assets],
        recommender.tables.text_mean,
        names_of(recommender.catalogue),
        recommender.run.recommendation,
    )


def names_of(catalogue: Catalogue) -> ItemNames:
    """What an export says about items."""
    return ItemNames(catalogue.ids, catalogue.titles, catalogue.categories, catalogue.category_names)


def export(
    workdir: str | os.PathLike[str],
    which: str,
    base_path: str | os.PathLike[str],
    name: str,
    metrics: Mapping[str, float] | None = None,
    measure_batching: bool = False,
) -> Path:
    """Writes the next version of the recommender in a workdir; arguments as in `export.write_recommender`."""
    recommender = load(workdir, which)
    notes = {
        "recommendation": recommender.run.recommendation.model_dump(),
        "num_items": len(recommender.catalogue),
        "num_trained_items": recommender.tables.num_trained,
        "tokenizer_fingerprint": recommender.encoder.tokenizer.fingerprint,
        "metrics": dict(metrics or {}),
    }
    names = names_of(recommender.catalogue)
    return write_recommender(signatures_of(recommender), base_path, name, notes, names, measure_batching)


def _write_catalogue(workdir: Path, catalogue: Catalogue, log: Events, text: np.ndarray, tables: ItemTables) -> None:
    folder = workdir / "catalogue"
    folder.mkdir(exist_ok=True)
    write_catalogue(catalogue, folder / "items.jsonl")
    write_events(log, catalogue, folder / "events.tsv")
    np.save(folder / "text.npy", text)
    tables.save(folder / "tables.npz")


def _is_later(everything: Events, known: Events) -> np.ndarray:
    """[N] bool: the events that come after a user's first ones, of which there are as many as he has in `known`."""
    counts = np.array([len(known.of_user(name)) for name in everything.user_names])
    return np.arange(len(everything)) >= (everything.starts[:-1] + counts)[everything.users]
