"""What should someone know who is given an export? The model card README.md, from what is known when it is written."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from kerasllm.export.batching import BATCHING_FILE, best_batch
from kerasllm.export.golden import PARITY_FILE
from kerasllm.export.operations import all_servers
from kerasllm.export.warmup import WARMUP_FILE

CARD_FILE = "README.md"  # of assets.extra


def model_card(
    directory: Path,
    name: str,
    signatures: Mapping[str, Any],
    notes: Mapping[str, Any],
    about: Sequence[str],
    seconds: Mapping[int, float] | None,
) -> str:
    """The card of an export, as Markdown.

    Args:
      directory: with its variables and assets.
      name: of the model.
      signatures: SignatureDefs by name.
      notes: of export.json; `metrics` are the scores, plain values are facts about the data.
      about: further sections, such as behaviour tests.
      seconds: of a run by batch size, if that was measured.
    """
    lines = [f"# Model card: {name}", ""]
    for section in (_data(notes), _scores(notes), about, _signatures(signatures), _sizes(directory), _latency(seconds)):
        lines += section
    lines += [*_servers(directory), ""]
    return "\n".join(lines)


def behaviour_section(tested: Mapping[str, Any], asked: Mapping[str, float]) -> Iterator[str]:
    """The pass rates of a behaviour.json beside the shares that an export asks for."""
    yield from ("## Behaviour tests", "", f"{tested['num_cases']} pairs of texts; share that behaves.", "")
    yield from ("| test | share | asked for |", "| --- | --- | --- |")
    for test, rates in tested["pass_rates"].items():
        least = f"{asked[test]:.3f}" if test in asked else "-"
        yield f"| {test} | {rates['all']:.3f} | {least} |"
    yield ""


def _data(notes: Mapping[str, Any]) -> Iterator[str]:
    yield from ("## Data", "")
    for head, one in notes.get("heads", {}).items():
        yield f"- {head}: {', '.join(one['labels'])}"
    for key, value in notes.items():
        if isinstance(value, str | int | float) and key not in ("name", "format_version"):
            yield f"- {key.replace('_', ' ')}: {value}"
    yield ""


def _scores(notes: Mapping[str, Any]) -> Iterator[str]:
    yield from ("## Scores", "")
    scores = {key: value for key, value in notes.get("metrics", {}).items() if isinstance(value, int | float)}
    if not scores:
        yield from ("None were noted with the checkpoint.", "")
        return
    yield from ("On held-out texts, when the checkpoint was written:", "", "| score | value |", "| --- | --- |")
    yield from (f"| {key} | {value:.4g} |" for key, value in scores.items())
    yield ""


def _signatures(signatures: Mapping[str, Any]) -> Iterator[str]:
    yield from ("## Signatures", "", "| signature | inputs | outputs |", "| --- | --- | --- |")
    for key in sorted(signatures):
        if not key.startswith("__"):
            yield f"| {key} | {_tensors(signatures[key].inputs)} | {_tensors(signatures[key].outputs)} |"
    yield ""


def _tensors(tensors: Mapping[str, Any]) -> str:
    described = []
    for name, info in sorted(tensors.items()):
        sizes = ", ".join("any" if dim.size < 0 else str(dim.size) for dim in info.tensor_shape.dim)
        described.append(f"`{name}` {tf.as_dtype(info.dtype).name} [{sizes}]")
    return ", ".join(described)


def _sizes(directory: Path) -> Iterator[str]:
    prefix = directory / "variables" / "variables"
    reader = tf.train.load_checkpoint(str(prefix))
    kinds = reader.get_variable_to_dtype_map()
    shapes = {name: shape for name, shape in reader.get_variable_to_shape_map().items() if kinds[name] != tf.string}
    count = sum(tf.TensorShape(shape).num_elements() or 0 for shape in shapes.values())
    stored = sum(path.stat().st_size for path in prefix.parent.iterdir())
    graph = (directory / "saved_model.pb").stat().st_size
    yield from ("## Sizes", "")
    yield f"- {count:,} numbers in {len(shapes)} variables, as {', '.join(sorted({kinds[one].name for one in shapes}))}"
    yield f"- {stored:,} bytes of variables, {graph:,} bytes of graph with the vocabulary"
    yield ""


def _latency(seconds: Mapping[int, float] | None) -> Iterator[str]:
    if seconds is None:
        return
    yield from ("## Latency", "", "Of one text, or one list for the longest history, on the machine that exported:", "")
    yield from ("| batch | ms | ms a row |", "| --- | --- | --- |")
    yield from (f"| {size} | {1000 * each:.2f} | {1000 * each / size:.3f} |" for size, each in seconds.items())
    yield from ("", f"`{BATCHING_FILE}` says batches of {best_batch(seconds)}: up to there a row gets cheaper.", "")


def _servers(directory: Path) -> Iterator[str]:
    yield from ("## Servers", "")
    yield (
        f"Its operations are in TensorFlow Serving {' and '.join(all_servers())}; `{WARMUP_FILE}` warms a server up, "
        f"`{PARITY_FILE}` holds golden answers. `python -m serving.export --check FOLDER` compares them on any machine."
    )
    extra = sorted(path.name for path in (directory / "assets.extra").iterdir() if path.suffix == ".md")
    yield from (f"See also `{name}`." for name in extra if name != CARD_FILE)
