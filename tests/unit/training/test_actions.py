"""What TensorBoard finds: curves under shared tags, texts, pictures, embeddings with their words, a profile."""

import io
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.projector import ProjectorConfig

from kerasllm.training import EmbeddingProjector, Profile, TensorBoard, confusion_picture
from kerasllm.training.actions import write_projector


def _events(folder: Path) -> EventAccumulator:
    assert len(list(folder.glob("*.tfevents.*.v2"))) == 1, "TensorBoard follows only the newest file of a run"
    return EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()


def test_a_run_leaves_its_curves_texts_and_pictures(tmp_path: Path, tiny: Any) -> None:
    board = TensorBoard(
        make_texts=lambda model, step: {"samples": f"| step {step} |"},
        make_images=lambda model, step: {"confusion": confusion_picture(np.eye(3, dtype=int), ["good", "bad", "涨"])},
    )
    results = tiny.make_trainer(tmp_path, actions=(board,)).fit(tiny.batches_from, 12, tiny.held_out_batches)
    train, held_out = (_events(tmp_path / "tensorboard" / name) for name in ("train", "held_out"))
    for tag in (
        "loss", "tag_loss", "tag_accuracy", "learning_rate", "gradient_norm", "padding_share", "skipped_steps",
        "tokens_per_s",
    ):  # fmt: skip
        assert tag in train.Tags()["tensors"]
    assert [event.step for event in train.Tensors("loss")] == [2, 4, 6, 8, 10, 12]
    assert set(held_out.Tags()["tensors"]) == {"loss", "tag_loss", "tag_accuracy", "samples", "confusion"}
    last = held_out.Tensors("loss")[-1]
    assert last.step == 12
    np.testing.assert_allclose(tf.make_ndarray(last.tensor_proto), results["held_out"]["loss"], rtol=1e-6)
    assert held_out.Tensors("samples")[0].tensor_proto.string_val[0] == b"| step 6 |"


def test_the_projector_gets_one_word_per_row_whatever_is_in_the_words(tmp_path: Path, tiny: Any) -> None:
    words = ["[PAD]", "tab\there", "line\nend", "\u2028", "", "##ing", "中", "a\\b", "\r", "🙂", "\x85"]
    action = EmbeddingProjector(words, lambda model: model.table.embeddings)
    trainer = tiny.make_trainer(tmp_path, actions=(action,))
    trainer.fit(tiny.batches_from, 6)
    folder = tmp_path / "tensorboard" / "train"
    config = text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig())
    embedding = config.embeddings[0]
    table = np.loadtxt(folder / embedding.tensor_path, delimiter="\t", ndmin=2)
    np.testing.assert_allclose(table, trainer.model.table.embeddings.numpy(), rtol=1e-5)
    shown = (folder / embedding.metadata_path).read_text(encoding="utf-8").splitlines()
    assert len(shown) == len(table) == len(words) == embedding.tensor_shape[0]
    assert [shown[index] for index in (0, 1, 2, 4, 5, 6, 7, 9)] == [
        "[PAD]", "tab\\there", "line\\nend", '""', "##ing", "中", "a\\b", "🙂",
    ]  # fmt: skip


def test_a_table_that_is_too_large_is_cut_and_says_so(tmp_path: Path) -> None:
    write_projector(tmp_path, np.zeros((50_001, 1), np.float32), [str(row) for row in range(50_001)])
    assert 'tensor_name: "token_embeddings, first 50000 of 50001"' in (tmp_path / "projector_config.pbtxt").read_text()
    assert len((tmp_path / "metadata.tsv").read_text().splitlines()) == 50_000


def test_a_profile_covers_the_steps_asked_for(tmp_path: Path, tiny: Any) -> None:
    tiny.make_trainer(tmp_path, actions=(Profile(2, 4),)).fit(tiny.batches_from, 6)
    assert list((tmp_path / "tensorboard").rglob("*.xplane.pb"))


def test_the_confusion_picture_is_dark_where_the_rows_of_a_label_go() -> None:
    picture = matplotlib.image.imread(io.BytesIO(confusion_picture(np.array([[0, 90], [90, 0]]), ["no", "yes"])))
    assert picture.shape[0] > 100
    assert picture.shape[1] > 100
    blues = picture[..., 2] - picture[..., 0]
    assert 0.02 < np.mean(blues > 0.3) < 0.6
