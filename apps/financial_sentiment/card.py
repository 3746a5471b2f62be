"""What should someone know who is given this model? Its data, figures, promises and behaviour, as Markdown."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasllm.config import Run

if TYPE_CHECKING:
    from kerasllm.trained import Trained


def model_card(
    trained: "Trained", step: int, behaviour: Mapping[str, Any], evaluation: Mapping[str, Any] | None
) -> str:
    """The card of a checkpoint.

    Args:
      trained: the model.
      step: of the checkpoint.
      behaviour: what the behaviour program found.
      evaluation: what the evaluate program found, if it was run.
    """
    lines = [
        "# Model card: sentiment of financial texts",
        "",
        f"Step {step}; {trained.model.count_params():,} parameters; texts are cut to "
        f"{trained.run.export.sequence_length} tokens; seed {trained.run.seed}.",
        "",
        "For texts on companies and markets such as those it was trained on. It reads one text at a time, knows "
        "nothing of prices, and its answer is no advice. Texts of another kind or language are answered too, but "
        "badly: watch the share it abstains from.",
        "",
        *_heads(trained),
        *(_evaluation(evaluation) if evaluation else ["No evaluation was given.", ""]),
        *_behaviour(trained.run, behaviour),
    ]
    return "\n".join(lines)


def _heads(trained: "Trained") -> Iterator[str]:
    yield from ("## What it says", "", "| head | labels | temperature | answers from | set |", "| --- " * 5 + "|")
    for name, head in trained.run.data.label_heads().items():
        decision, promised = trained.decision(name), trained.run.decisions
        yield (
            f"| {name} | {', '.join(head.labels)} | {decision.temperature:.2f} | probability "
            f"{decision.abstain_below:.2f}, for {promised.precision:.0%} right answers | "
            f"{promised.coverage:.0%} hold the true label |"
        )
    yield ""
    for name in trained.run.data.label_heads():
        yield from (f"- {name}: {note}" for note in trained.decision(name).notes)
    yield ""


def _evaluation(evaluation: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"## Figures on {evaluation['data']}", "")
    yield "| head | texts | accuracy | macro-F1 | calibration error | in the set | labels a set | abstains |"
    yield "| --- " * 8 + "|"
    for name, one in evaluation["heads"].items():
        yield (
            f"| {name} | {one['num_examples']:,} | {one['accuracy']:.3f} | {one['macro_f1']:.3f} | "
            f"{one['calibration']['error_after']:.3f} | {one['conformal']['coverage']:.3f} | "
            f"{one['conformal']['mean_set_size']:.2f} | {one['abstention']['share']:.3f} |"
        )
    yield ""


def _behaviour(run: Run, behaviour: Mapping[str, Any]) -> Iterator[str]:
    languages = run.export.behaviour_languages
    yield from ("## Behaviour", "", f"{behaviour['num_cases']} pairs of texts; share that behaves.", "")
    yield "| test | " + " | ".join(languages) + " | all | asked for |"
    yield "| --- " * (len(languages) + 3) + "|"
    for test, rates in behaviour["pass_rates"].items():
        shares = [f"{rates[language]:.3f}" if language in rates else "-" for language in (*languages, "all")]
        asked = run.export.min_behaviour.get(test)
        yield f"| {test} | " + " | ".join(shares) + f" | {'-' if asked is None else f'{asked:.3f}'} |"
    yield ""


def write_whole(path: Path, content: str) -> None:
    """Writes a file that is there whole or not at all."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(content, encoding="utf-8")
    unfinished.replace(path)
