"""How does a model become a numbered folder that servers pick up? Written aside, checked, then renamed."""

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasllm.config import Run
from kerasllm.errors import ExportError
from kerasllm.export.checks import Call, check_export
from kerasllm.export.signatures import TEXT_FEATURE, ClassifierSignatures
from kerasllm.text import Tokenizer

FORMAT_VERSION = 1  # of assets.extra/export.json
SAMPLE_TEXTS = (
    "Operating profit rose to EUR 13.1 mn from EUR 8.7 mn a year earlier.",
    "该公司第三季度净利润同比下降百分之十二。",
    "",
    "plain 😀 text,\twith a tab and a\x00null byte",
    "a much longer text that is cut in the end " * 40,
)


def write_classifier(
    model: keras.Model,
    tokenizer: Tokenizer,
    run: Run,
    base_path: str | os.PathLike[str],
    name: str,
    metrics: Mapping[str, float] | None = None,
) -> Path:
    """Writes base_path/name/<next version>/ and returns it; the folder appears whole or not at all.

    Args:
      model: a built text classifier of `run`.
      tokenizer: the one that the model was trained with.
      run: `data.labels` names the classes, `export.sequence_length` says where texts are cut.
      base_path: folder of all exported models.
      name: of the model; letters, digits, `_`, `-` and `.`.
      metrics: of the evaluation, noted in assets.extra/export.json.

    Raises:
      ExportError: the labels do not fit the model, the folder cannot be written, or a check failed.
    """
    if not name or set(name) & set("/:\\") or name.startswith("."):
        raise ExportError(f"--name {name!r}: a model's name is part of paths and addresses; leave out / : and \\.")
    signatures = ClassifierSignatures(model, tokenizer, run.data.labels, run.export.sequence_length)
    calls = _sample_calls(signatures)
    folder = Path(base_path) / name
    unfinished = folder / f"unfinished-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tf.saved_model.save(signatures, str(unfinished), signatures=signatures.signatures())
        _write_notes(unfinished, name, tokenizer, run, metrics or {})
        check_export(unfinished, sum(int(np.prod(w.shape)) * w.value.dtype.size for w in model.weights), calls)
        return _rename(unfinished, folder)
    except OSError as error:
        raise ExportError(f"{folder} cannot be written ({error}). Give another --base_path.") from error
    except tf.errors.OpError as error:
        raise ExportError(f"{folder}: saving failed ({error.message}). Is there room on the disk?") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _sample_calls(signatures: ClassifierSignatures) -> list[Call]:
    """What the model answers, computed eagerly and without the export, for each signature."""
    probabilities = signatures.probabilities(tf.constant(SAMPLE_TEXTS)).numpy()
    labels = [label.encode() for label in signatures.labels]
    if probabilities.shape[1] != len(labels):
        raise ExportError(
            f"the model has {probabilities.shape[1]} classes, but data.labels names {len(labels)}: "
            f"{', '.join(signatures.labels) or 'none'}. Export with the run.yaml of the workdir."
        )
    if not np.isfinite(probabilities).all():
        raise ExportError("the model answers with numbers that are not finite. Export another checkpoint.")
    texts = [text.encode() for text in SAMPLE_TEXTS]
    return [
        Call(
            "serving_default",
            {"text": np.array(texts, object)},
            {
                "label": np.array([labels[i] for i in probabilities.argmax(1)], object),
                "probabilities": probabilities,
            },
        ),
        Call(
            "classify",
            {"inputs": np.array([_example(text) for text in texts], object)},
            {"classes": np.array([labels] * len(texts), object), "scores": probabilities},
        ),
    ]


def _example(text: bytes) -> bytes:
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[text]))
    return tf.train.Example(features=tf.train.Features(feature={TEXT_FEATURE: feature})).SerializeToString()


def _write_notes(folder: Path, name: str, tokenizer: Tokenizer, run: Run, metrics: Mapping[str, float]) -> None:
    extra = folder / "assets.extra"
    extra.mkdir(exist_ok=True)
    (extra / "labels.txt").write_text("".join(f"{label}\n" for label in run.data.labels), encoding="utf-8")
    notes: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "name": name,
        "labels": list(run.data.labels),
        "sequence_length": run.export.sequence_length,
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "metrics": dict(metrics),
    }
    (extra / "export.json").write_text(json.dumps(notes, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _rename(unfinished: Path, folder: Path) -> Path:
    """Gives the folder the next free number; another export that takes it first leaves us the one after it."""
    while True:
        numbers = [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]
        version = folder / str(max(numbers, default=0) + 1)
        try:
            return unfinished.rename(version)
        except OSError:
            if not version.exists():
                raise
