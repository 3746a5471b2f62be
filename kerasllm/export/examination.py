"""What would a stock server make of this SavedModel, ours or not? Findings with remedies, and what was compared."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasllm.errors import ExportError
from kerasllm.export.batching import BATCHING_FILE
from kerasllm.export.checks import (
    Finding,
    batch_findings,
    graph_findings,
    read_meta_graph,
    repeated_weights,
    warmup_of,
)
from kerasllm.export.fresh_process import Answer, NotLoadable, Wanted, run_in_fresh_process
from kerasllm.export.golden import PARITY_FILE, Call, differences, read_parity
from kerasllm.export.made_up import made_up_inputs
from kerasllm.export.operations import all_servers
from kerasllm.export.warmup import WARMUP_FILE

OTHER_MACHINE = 10  # times the tolerance of a float: another machine adds in another order


@dataclass(frozen=True)
class Examination:
    """What was found, and in `notes` what was run and compared; `fails` says whether a server would."""

    findings: Sequence[Finding]
    notes: Sequence[str]

    @property
    def fails(self) -> bool:
        """A stock server would not load the export, or not answer for it."""
        return any(finding.fails for finding in self.findings)


def examine(directory: Path) -> Examination:
    """Reads a SavedModel, then loads it in a fresh process and runs its signatures, warm-up and golden answers.

    Raises:
      ExportError: there is no SavedModel to examine.
    """
    meta_graph = read_meta_graph(directory)
    is_batched = (directory / BATCHING_FILE).is_file()
    warmup, warmup_findings = warmup_of(directory)
    calls, parity_findings = _golden(directory)
    findings = [
        *_place_findings(directory),
        *graph_findings(meta_graph),
        *batch_findings(meta_graph, fails=is_batched),
        *repeated_weights(directory),
        *warmup_findings,
        *parity_findings,
    ]
    signatures = {key: one for key, one in sorted(meta_graph.signature_def.items()) if not key.startswith("__")}
    unknown = sorted({one.signature for one in warmup} - set(signatures))
    findings += [
        Finding(
            f"a warm-up request names signature {key}, which is not there: the server fails to load the version",
            f"use one of {', '.join(signatures)}",
        )
        for key in unknown
    ]
    warmup = [one for one in warmup if one.signature in signatures]
    made_up = [
        Wanted(key, [*_known_inputs(key, warmup, calls), *made_up_inputs(one, meta_graph.graph_def)])
        for key, one in signatures.items()
    ]
    golden = [call for call in calls if call.signature in signatures]
    try:
        wanted = [*made_up, *warmup, *(Wanted(call.signature, [call.inputs]) for call in golden)]
        answers = run_in_fresh_process(directory, wanted)
    except NotLoadable as error:
        remedy = "export again with tf.saved_model.save, and copy the folder whole; what it needs has to be in it"
        return Examination([*findings, Finding(f"it does not load in a version-1 Session: {error}", remedy)], [])
    to_compare = answers[len(made_up) + len(warmup) :]
    findings += _run_findings(made_up, answers, is_batched)
    findings += _warmup_findings(warmup, answers[len(made_up) :])
    findings += _parity_findings(golden, to_compare)
    num_run = sum(not answer.error for answer in answers[: len(made_up)])
    notes = [
        f"{num_run} of {len(made_up)} signatures run in a version-1 Session of a fresh process; operations are "
        f"compared with those of TensorFlow Serving {' and '.join(all_servers())}",
        f"{len(warmup)} warm-up requests run" if warmup else "no warm-up requests",
        _parity_note(golden, to_compare),
    ]
    return Examination(findings, notes)


def _golden(directory: Path) -> tuple[list[Call], list[Finding]]:
    path = directory / "assets.extra" / PARITY_FILE
    if not path.is_file():
        return [], []
    try:
        return read_parity(path), []
    except ExportError as error:
        return [], [Finding(str(error), "servers do not read it, but nothing can be compared", fails=False)]


def _place_findings(directory: Path) -> Iterator[Finding]:
    name = directory.resolve().name
    if not (name.isascii() and name.isdecimal()):
        yield Finding(
            f"the folder's name {name!r} is no version number: servers do not see it",
            "put it into BASE_PATH/MODEL/<number>/ by renaming",
            fails=False,
        )


def _known_inputs(signature: str, warmup: Sequence[Wanted], calls: Sequence[Call]) -> Iterator[Any]:
    """Inputs that the export itself brings for a signature; they are better than made-up ones."""
    yield from (one.tries[0] for one in warmup if one.signature == signature)
    yield from (call.inputs for call in calls if call.signature == signature)


def _run_findings(made_up: Sequence[Wanted], answers: Sequence[Answer], is_batched: bool) -> Iterator[Finding]:
    for one, answer in zip(made_up, answers, strict=False):
        if answer.error:
            yield Finding(
                f"signature {one.signature} does not run on made-up inputs: {answer.error}",
                f"mend its graph; or, if it wants inputs of another kind, put one into assets.extra/{WARMUP_FILE}, "
                "and check again",
            )
            continue
        sent = {len(array) for array in one.tries[answer.tried].values() if array.ndim}
        for name, array in answer.outputs.items() if len(sent) == 1 else ():
            if array.ndim and len(array) not in sent:
                yield Finding(
                    f"{one.signature}: {name} has {len(array)} rows for {min(sent)} rows sent; batching refuses it",
                    "let every output have a row for each row of the inputs",
                    fails=is_batched,
                )
                break


def _warmup_findings(warmup: Sequence[Wanted], answers: Sequence[Answer]) -> Iterator[Finding]:
    for one, answer in zip(warmup, answers, strict=False):
        if answer.error:
            yield Finding(
                f"a warm-up request of {one.signature} fails: {answer.error}; the server fails to load the version",
                "write the warm-up file again with inputs that the signature takes",
            )


def _parity_findings(calls: Sequence[Call], answers: Sequence[Answer]) -> Iterator[Finding]:
    remedy = "the export is damaged, or this TensorFlow computes otherwise: export again with the one that serves"
    for call, answer in zip(calls, answers, strict=True):
        if answer.error:
            yield Finding(f"{PARITY_FILE}: {call.signature} fails: {answer.error}", remedy)
        for one in differences(call, answer.outputs) if not answer.error else ():
            if one.problem:
                yield Finding(f"{PARITY_FILE}: {one.place}: {one.problem}", remedy)
            elif not one.largest <= OTHER_MACHINE * call.tolerance:
                yield Finding(f"{PARITY_FILE}: {one.place} differs by {one.largest:.2e}", remedy)


def _parity_note(calls: Sequence[Call], answers: Sequence[Answer]) -> str:
    if not calls:
        return f"no {PARITY_FILE} with golden answers"
    found = [one for call, answer in zip(calls, answers, strict=True) for one in differences(call, answer.outputs)]
    largest = max(found, key=lambda one: one.largest)
    num_values = sum(array.size for call in calls for array in call.outputs.values())
    return f"{num_values} golden values compared; the largest difference is {largest.largest:.1e} ({largest.place})"
