"""What happens on the way of a run? TensorBoard: scalars, text samples, pictures, embeddings, a profile."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from kerasllm.training.checkpoints import Checkpoint

if TYPE_CHECKING:
    from kerasllm.training.loop import Trainer

MOST_EMBEDDINGS = 50_000  # the projector runs in a browser and shows no more
CHINESE_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "SimHei",
    "PingFang SC",
)


class Action:
    """Something that a Trainer tells of each event; a subclass overrides what it cares for. `step` = steps done."""

    def on_start(self, trainer: "Trainer", step: int) -> None:
        """The state is restored, training is about to begin."""

    def before_step(self, trainer: "Trainer", step: int) -> None:
        """Step number `step` (from 0) is about to run."""

    def on_log(self, trainer: "Trainer", step: int, metrics: Mapping[str, float]) -> None:
        """Training metrics of the steps since the last look."""

    def on_evaluate(self, trainer: "Trainer", step: int, metrics: Mapping[str, float]) -> None:
        """Held-out metrics."""

    def on_checkpoint(self, trainer: "Trainer", step: int, checkpoint: Checkpoint) -> None:
        """A checkpoint is whole on disk."""

    def on_end(self, trainer: "Trainer", step: int) -> None:
        """Training is over, by its last step, a signal or an error."""


class TensorBoard(Action):
    """Curves, texts and pictures. The runs `train` and `held_out` share tags, so that their curves share charts.

    One writer per run: TensorBoard follows only the newest event file of a folder.

    Args:
      make_texts: (model, step) -> {name: markdown}, called at each evaluation: filled-in masks, continuations.
      make_images: (model, step) -> {name: bytes of a PNG}, called at each evaluation: a confusion matrix.
    """

    def __init__(
        self,
        make_texts: Callable[[keras.Model, int], Mapping[str, str]] | None = None,
        make_images: Callable[[keras.Model, int], Mapping[str, bytes]] | None = None,
    ) -> None:
        self.make_texts = make_texts
        self.make_images = make_images

    def on_start(self, trainer: "Trainer", step: int) -> None:
        """Opens the event files."""
        folder = trainer.workdir.tensorboard
        self._train = tf.summary.create_file_writer(str(folder / "train"))
        self._held_out = tf.summary.create_file_writer(str(folder / "held_out"))

    def on_log(self, trainer: "Trainer", step: int, metrics: Mapping[str, float]) -> None:
        """Writes the training curves, and which share of the time so far went where."""
        shares = trainer.ledger.summary()["shares"]
        _write_scalars(self._train, step, {**metrics, **{f"ledger/{entry}": share for entry, share in shares.items()}})

    def on_evaluate(self, trainer: "Trainer", step: int, metrics: Mapping[str, float]) -> None:
        """Writes the held-out curves, texts and pictures."""
        with self._held_out.as_default(step):
            for name, markdown in self.make_texts(trainer.model, step).items() if self.make_texts else ():
                tf.summary.text(name, markdown)
            for name, png in self.make_images(trainer.model, step).items() if self.make_images else ():
                tf.summary.image(name, tf.io.decode_png(png, channels=3)[tf.newaxis])
        _write_scalars(self._held_out, step, metrics)

    def on_end(self, trainer: "Trainer", step: int) -> None:
        """Closes the event files."""
        self._train.close()
        self._held_out.close()


class EmbeddingProjector(Action):
    """The token embeddings with their words, for TensorBoard's projector; written anew at each checkpoint.

    They stand in the folder of the training's events: the projector looks into folders with events only.

    Args:
      words: one per row of the table, as they are.
      table: model -> [V, D] embedding table, a keras.Variable or tensor.
    """

    def __init__(self, words: Sequence[str], table: Callable[[keras.Model], Any]) -> None:
        self.words = words
        self.table = table

    def on_checkpoint(self, trainer: "Trainer", step: int, checkpoint: Checkpoint) -> None:
        """Writes the table."""
        table = self.table(trainer.model).numpy()
        write_projector(trainer.workdir.tensorboard / "train", table, self.words)


class Profile(Action):
    """A profile of the steps [first_step, last_step), for TensorBoard's profile page."""

    def __init__(self, first_step: int, last_step: int) -> None:
        assert first_step < last_step, f"no steps in [{first_step}, {last_step})"
        self.first_step = first_step
        self.last_step = last_step
        self._is_running = False

    def before_step(self, trainer: "Trainer", step: int) -> None:
        """Starts and stops the profiler."""
        if self._is_running and step >= self.last_step:
            self._stop()
        elif not self._is_running and self.first_step <= step < self.last_step:
            tf.profiler.experimental.start(str(trainer.workdir.tensorboard / "train"))
            self._is_running = True

    def on_end(self, trainer: "Trainer", step: int) -> None:
        """Stops the profiler if the run ends within its steps."""
        if self._is_running:
            self._stop()

    def _stop(self) -> None:
        tf.profiler.experimental.stop()
        self._is_running = False


def write_projector(folder: Path, table: np.ndarray, words: Sequence[str]) -> None:
    r"""Writes embeddings [V, D] and words so that `tensorboard --logdir` on a folder above shows them.

    `folder` has to hold events too, or be the --logdir itself.

    At most the first 50,000 rows are written, and the tensor's name says so. Tabs and line ends, which the metadata
    file cannot hold, are written as \t, \n and \r; an empty word as two quotation marks.
    """
    count = min(len(words), len(table), MOST_EMBEDDINGS)
    name = "token_embeddings" if count == len(table) else f"token_embeddings, first {count} of {len(table)}"
    folder.mkdir(parents=True, exist_ok=True)
    rows = ("\t".join(f"{number:.6g}" for number in row) for row in table[:count].astype(np.float64))
    (folder / "tensors.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    lines = (_on_one_line(word) for word in words[:count])
    with open(folder / "metadata.tsv", "w", encoding="utf-8", newline="\n") as file:
        file.write("\n".join(lines) + "\n")
    settings = (
        f'embeddings {{\n  tensor_name: "{name}"\n  tensor_path: "tensors.tsv"\n  metadata_path: "metadata.tsv"\n'
        f"  tensor_shape: {count}\n  tensor_shape: {table.shape[1]}\n}}\n"
    )
    (folder / "projector_config.pbtxt").write_text(settings, encoding="utf-8")


def confusion_picture(counts: np.ndarray, labels: Sequence[str]) -> bytes:
    """A PNG of a confusion matrix.

    Args:
      counts: [C, C] int; row = true label, column = predicted label.
      labels: C names.
    """
    from matplotlib import font_manager
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # draws without a display and without global state
    from matplotlib.figure import Figure

    fonts = [name for name in CHINESE_FONTS if name in font_manager.get_font_names()]
    if not fonts:  # better \u6da8 than an empty box
        labels = [label.encode("ascii", "backslashreplace").decode() for label in labels]
    size = 2.5 + 0.7 * len(labels)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    family = ["DejaVu Sans", *fonts]
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right", family=family)
    axes.set_yticks(range(len(labels)), labels, family=family)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    for row in range(len(labels)):
        for column in range(len(labels)):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=color)
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    return picture.getvalue()


def _on_one_line(word: str) -> str:
    """Whatever `str.splitlines` or the projector would split at is escaped; the rest stays as it is."""
    if not word:
        return '""'
    return "".join(
        repr(letter)[1:-1] if letter == "\t" or letter.splitlines() != [letter] else letter for letter in word
    )


def _write_scalars(writer: Any, step: int, metrics: Mapping[str, float]) -> None:
    with writer.as_default(step):
        for name, value in metrics.items():
            tf.summary.scalar(name, value)
    writer.flush()
