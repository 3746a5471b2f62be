"""Does the classifier behave? Negation, up and down, other companies, more and less: pass rates, and the model card.

python -m apps.financial_sentiment.behaviour --workdir runs/finance --evaluation metrics.json
"""

import json
from pathlib import Path
from typing import Any

from absl import flags

from apps.flags import run_program
from kerasllm.errors import DataError

FLAGS = flags.FLAGS
BEHAVIOUR_FILE, CARD_FILE = "behaviour.json", "model_card.md"  # of a workdir; serving.export reads them
SHOWN = 3  # failed cases of each test that are printed


def define_flags() -> None:
    """Says which model, and what else its card is to tell."""
    flags.DEFINE_string("workdir", None, "Folder that the train program wrote.", required=True)
    flags.DEFINE_string("evaluation", None, "metrics.json of the evaluate program, for the model card.")
    flags.DEFINE_enum("checkpoint", "best", ["best", "newest"], "Which checkpoint is tested.")


def main() -> None:
    """Runs the tests, prints pass rates and failed cases, and writes behaviour.json and model_card.md."""
    from apps.financial_sentiment import behaviour_cases, card
    from kerasllm.trained import classify, load
    from kerasllm.training import find_checkpoint

    workdir = Path(FLAGS.workdir)
    step = find_checkpoint(workdir, FLAGS.checkpoint).step
    trained = load(workdir, FLAGS.checkpoint)
    settings = trained.run.data
    head = "sentiment" if "sentiment" in settings.label_heads() else next(iter(settings.label_heads()))
    labels = settings.label_heads()[head].labels
    if not {"positive", "negative"} <= set(labels):
        raise DataError(f"{workdir}: head {head!r} has no labels positive and negative; there is nothing to test.")
    cases = behaviour_cases.read_cases(trained.run.export.behaviour_languages)
    texts = [text for case in cases for text in (case.first, case.second)]
    found = classify(trained, texts)[head]
    passed = [
        behaviour_cases.holds(case, found[2 * place], found[2 * place + 1], labels) for place, case in enumerate(cases)
    ]
    report: dict[str, Any] = {
        "format_version": 1,
        "step": step,
        "head": head,
        "num_cases": len(cases),
        "pass_rates": behaviour_cases.pass_rates(cases, passed),
    }
    evaluation = read_evaluation(FLAGS.evaluation)
    card.write_whole(workdir / BEHAVIOUR_FILE, json.dumps(report, indent=1) + "\n")
    card.write_whole(workdir / CARD_FILE, card.model_card(trained, step, report, evaluation))
    for test, rates in report["pass_rates"].items():
        print(f"{test:<16}" + "  ".join(f"{language} {rate:.3f}" for language, rate in rates.items()))
        failed = [case for case, ok in zip(cases, passed, strict=True) if case.test == test and not ok]
        for case in failed[:: max(1, len(failed) // SHOWN)][:SHOWN]:
            print(f"    fails {case.expect}: {case.first} | {case.second}")


def read_evaluation(path: str | None) -> dict[str, Any] | None:
    """The metrics of the evaluate program.

    Raises:
      DataError: the file cannot be read, or is none of evaluate's.
    """
    if path is None:
        return None
    try:
        tree: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
        tree["heads"], tree["data"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"--evaluation {path}: not the metrics.json of the evaluate program ({error!r}).") from None
    return tree


if __name__ == "__main__":
    define_flags()
    run_program(main)
