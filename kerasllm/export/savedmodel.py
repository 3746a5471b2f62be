"""How does a model become a numbered folder that servers pick up? Written aside, checked, then renamed."""

import dataclasses
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasllm.config import LabelHead, Run
from kerasllm.decisions import ClassDecision
from kerasllm.errors import ExportError
from kerasllm.export.batching import BATCHING_FILE, batching_params, measure_latency
from kerasllm.export.card import CARD_FILE, model_card
from kerasllm.export.checks import check_export, read_meta_graph
from kerasllm.export.golden import BFLOAT16_TOLERANCE, GOLDEN_TEXTS, PARITY_FILE, TOLERANCE, Call, parity_json
from kerasllm.export.narrow import Rounding, compare, computing_in_bfloat16, rounding_section
from kerasllm.export.signatures import TEXT_FEATURE, ClassifierSignatures
from kerasllm.export.warmup import WARMUP_FILE, bucket_text, length_buckets, write_warmup
from kerasllm.text import Tokenizer

Request = tuple[str, Mapping[str, np.ndarray]]  # signature, inputs
FORMAT_VERSION = 2  # of assets.extra/export.json


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """What an export may have beside the model.

    Attributes:
      about: further sections of the model card, as lines of Markdown.
      measured_text: a text of median length: batches of it are timed, which decides how a server batches.
      bfloat16_weights: stores matrices in half of the bytes; the card tells what it changes for `evaluation_texts`.
      evaluation_texts: for that.
      bfloat16_compute: stores matrices as bfloat16 and computes in it; the card tells what it changes.
    """

    about: tuple[str, ...] = ()
    measured_text: str | None = None
    bfloat16_weights: bool = False
    evaluation_texts: tuple[str, ...] = ()
    bfloat16_compute: bool = False


def write_classifier(
    model: keras.Model,
    tokenizer: Tokenizer,
    run: Run,
    base_path: str | os.PathLike[str],
    name: str,
    metrics: Mapping[str, float] | None = None,
    decisions: Mapping[str, ClassDecision] | None = None,
    extra_files: Mapping[str, str] | None = None,
    options: ExportOptions | None = None,
) -> Path:
    """Writes base_path/name/<next version>/ and returns it; the folder appears whole or not at all.

    Args:
      model: a built text classifier of `run`.
      tokenizer: the one that the model was trained with.
      run: `data` names heads and classes, `export.sequence_length` says where texts are cut.
      base_path: folder of all exported models.
      name: of the model; letters, digits, `_`, `-` and `.`.
      metrics: of the evaluation, noted in assets.extra/export.json.
      decisions: by head, what is concluded from its logits; without, probabilities are as they are and every text is
        answered.
      extra_files: name -> content of more files for assets.extra, such as an application's own model card.
      options: what else it has.

    Raises:
      ExportError: the labels do not fit the model, the folder cannot be written, or a check failed.
    """
    heads = run.data.label_heads()
    decisions = {head: ClassDecision.undecided(len(one.labels)) for head, one in heads.items()} | dict(decisions or {})
    options, length = options or ExportOptions(), run.export.sequence_length
    served = computing_in_bfloat16(model) if options.bfloat16_compute else model
    signatures = ClassifierSignatures(served, tokenizer, heads, length, decisions, options.bfloat16_weights)
    calls = _golden_calls(signatures, BFLOAT16_TOLERANCE if options.bfloat16_compute else TOLERANCE)
    rounding = {}
    if options.bfloat16_weights or options.bfloat16_compute:
        exact = ClassifierSignatures(model, tokenizer, heads, length, decisions)
        rounding = compare(exact, signatures, options.evaluation_texts)
    notes = _notes(name, tokenizer, run, metrics or {}, decisions, rounding)
    files = {"export.json": notes, **_label_lists(heads), **(extra_files or {})}
    measured = options.measured_text
    return write_export(
        signatures,
        calls,
        bytes_of(signatures.stored),
        base_path,
        name,
        files,
        _warmup(length),
        [*options.about, *(rounding_section(rounding) if rounding else ())],
        None if measured is None else ("serving_default", {"text": np.array([measured.encode()], object)}),
    )


def write_export(
    signatures: Any,
    calls: Sequence[Call],
    parameter_bytes: int,
    base_path: str | os.PathLike[str],
    name: str,
    extra_files: Mapping[str, str],
    warmup: Sequence[Request] = (),
    about: Sequence[str] = (),
    measured: Request | None = None,
) -> Path:
    """Writes base_path/name/<next version>/ and returns it; the folder appears whole and checked, or not at all.

    With it go a model card, the calls as parity.json, and as warm-up requests the first row of each call and what
    `warmup` adds.

    Args:
      signatures: a tf.Module with a method `signatures` that gives the traced functions by name.
      calls: what each signature has to answer.
      parameter_bytes: of everything that is stored, each variable once.
      base_path: folder of all exported models.
      name: of the model; letters, digits, `_`, `-` and `.`.
      extra_files: name -> content of files for assets.extra.
      warmup: further requests for the warm-up.
      about: further sections of the model card, as lines of Markdown.
      measured: one row of which batches are timed, to write batching_params.pbtxt; None: a server decides.

    Raises:
      ExportError: the name is none, the folder cannot be written, or a check failed.
    """
    if not name or set(name) & set("/:\\") or name.startswith("."):
        raise ExportError(f"--name {name!r}: a model's name is part of paths and addresses; leave out / : and \\.")
    folder = Path(base_path) / name
    unfinished = folder / f"unfinished-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tf.saved_model.save(signatures, str(unfinished), signatures=signatures.signatures())
        _write_extra(unfinished / "assets.extra", {**extra_files, PARITY_FILE: parity_json(calls)})
        requests = [*((call.signature, _first_row(call.inputs)) for call in calls), *warmup]
        write_warmup(unfinished / "assets.extra" / WARMUP_FILE, name, requests)
        check_export(unfinished, parameter_bytes, calls)
        seconds = None if measured is None else measure_latency(unfinished, *measured)
        if seconds is not None:
            (unfinished / BATCHING_FILE).write_text(batching_params(seconds), encoding="utf-8")
        known, notes = read_meta_graph(unfinished).signature_def, json.loads(extra_files.get("export.json", "{}"))
        card = model_card(unfinished, name, known, notes, about, seconds)
        _write_extra(unfinished / "assets.extra", {CARD_FILE: card})
        return _rename(unfinished, folder)
    except OSError as error:
        raise ExportError(f"{folder} cannot be written ({error}). Give another --base_path.") from error
    except tf.errors.OpError as error:
        raise ExportError(f"{folder}: saving failed ({error.message}). Is there room on the disk?") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def bytes_of(variables: Iterable[Any]) -> int:
    """Bytes of Keras or plain variables."""
    plain = (variable.value if isinstance(variable, keras.Variable) else variable for variable in variables)
    return sum(int(np.prod(variable.shape)) * variable.dtype.size for variable in plain)


def arrays_of(answers: Mapping[str, tf.Tensor]) -> dict[str, np.ndarray]:
    """Answers of a signature's function, computed eagerly, as a Call expects them."""
    return {name: answer.numpy() for name, answer in answers.items()}


def _golden_calls(signatures: ClassifierSignatures, tolerance: float) -> list[Call]:
    """What the model answers to the golden texts, computed without the export, for each signature."""
    for name, scores in signatures.logits(tf.constant(GOLDEN_TEXTS)).items():
        labels = signatures.labels[name]
        if scores.shape[1] != len(labels):
            raise ExportError(
                f"head {name!r} of the model has {scores.shape[1]} classes, but data.labels names {len(labels)}: "
                f"{', '.join(labels) or 'none'}. Export with the run.yaml of the workdir."
            )
        if not np.isfinite(scores.numpy()).all():
            raise ExportError("the model answers with numbers that are not finite. Export another checkpoint.")
    texts = [text.encode() for text in GOLDEN_TEXTS]
    examples = [_example(text) for text in texts]
    given = {"text": np.array(texts, object)}
    return [
        Call("serving_default", given, arrays_of(tf.function(signatures.predict)(tf.constant(texts))), tolerance),
        Call("labels", given, arrays_of(signatures.name_labels(tf.constant(texts)))),
        Call("token_ids", given, arrays_of(signatures.token_ids(tf.constant(texts)))),
        Call(
            "classify",
            {"inputs": np.array(examples, object)},
            arrays_of(tf.function(signatures.classify)(tf.constant(examples))),
            tolerance,
        ),
    ]


def _warmup(sequence_length: int) -> list[Request]:
    """A text of each length, alone, for each signature that computes the model."""
    texts = [bucket_text(num_tokens) for num_tokens in length_buckets(sequence_length)]
    asked: list[Request] = [("serving_default", {"text": np.array([text], object)}) for text in texts]
    return [*asked, *(("classify", {"inputs": np.array([_example(text)], object)}) for text in texts)]


def _first_row(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array[:1] for name, array in inputs.items()}


def _example(text: bytes) -> bytes:
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[text]))
    return tf.train.Example(features=tf.train.Features(feature={TEXT_FEATURE: feature})).SerializeToString()


def _notes(
    name: str,
    tokenizer: Tokenizer,
    run: Run,
    metrics: Mapping[str, float],
    decisions: Mapping[str, ClassDecision],
    rounding: Mapping[str, Rounding],
) -> str:
    heads = run.data.label_heads().items()
    notes: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "name": name,
        "heads": {head: {"labels": list(one.labels), "decision": decisions[head].to_json()} for head, one in heads},
        "sequence_length": run.export.sequence_length,
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "metrics": dict(metrics),
    }
    if rounding:
        notes["bfloat16_weights"] = {head: dataclasses.asdict(one) for head, one in rounding.items()}
    return json.dumps(notes, indent=1, ensure_ascii=False) + "\n"


def _label_lists(heads: Mapping[str, LabelHead]) -> dict[str, str]:
    """The labels of each head, one a line, as files: labels.txt, or <head>_labels.txt where there are several."""
    lists = {head: "".join(f"{label}\n" for label in one.labels) for head, one in heads.items()}
    return {"labels.txt" if len(heads) == 1 else f"{head}_labels.txt": lines for head, lines in lists.items()}


def _write_extra(folder: Path, files: Mapping[str, str]) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")


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
