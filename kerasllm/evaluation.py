"""How good is a classifier on labelled texts, and are its promises kept? Per head, as numbers and as a table."""

from typing import Any

import numpy as np

from kerasllm import metrics, training
from kerasllm.data import LabelledTexts
from kerasllm.decisions import (
    ClassDecision,
    auc,
    calibration_error_by_chance,
    expected_calibration_error,
    scope_scores,
    softmax,
)
from kerasllm.trained import Trained

# N texts, C classes

MOST_PICTURED = 30  # labels of a head; a larger confusion matrix takes minutes to draw and nobody can read it


def judge(trained: Trained, examples: LabelledTexts, logits: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Figures of every head that the examples have labels of.

    Args:
      trained: a classifier.
      examples: N labelled texts.
      logits: of `score`, [N, C] by head.

    Returns: for each head accuracy, macro_f1, num_examples and per_class over the texts in scope, without abstention;
      calibration, conformal set, abstention and, where some are labelled so, texts out of scope.
    """
    figures = {}
    for name, head in trained.run.data.label_heads().items():
        labels = np.array(examples.labels[name])
        if (labels >= 0).any():
            figures[name] = _judge_head(logits[name], labels, head.labels, trained, name)
    return figures


def _judge_head(
    logits: np.ndarray, labels: np.ndarray, names: tuple[str, ...], trained: Trained, head: str
) -> dict[str, Any]:
    decision, settings = trained.decision(head), trained.run.decisions
    inside = labels >= 0
    known, truth = logits[inside], labels[inside]
    probabilities = decision.probabilities(known)
    found = known.argmax(axis=-1)
    sets, answered = decision.sets(probabilities), ~decision.abstains(probabilities)
    figures: dict[str, Any] = metrics.classification_report(metrics.confusion_matrix(truth, found, len(names)), names)
    figures["calibration"] = {
        "temperature": decision.temperature,
        "error_before": expected_calibration_error(softmax(known), truth),
        "error_after": expected_calibration_error(probabilities, truth),
        "error_by_chance": calibration_error_by_chance(probabilities),
    }
    figures["conformal"] = {
        "promised": settings.coverage,
        "coverage": float(sets[np.arange(len(truth)), truth].mean()),
        "mean_set_size": float(sets.sum(axis=-1).mean()),
    }
    figures["abstention"] = {
        "promised_precision": settings.precision,
        "share": float(1 - answered.mean()),
        "accuracy_of_answered": float((found == truth)[answered].mean()) if answered.any() else None,
    }
    outside = logits[labels < -1]
    if len(outside) and decision.scope_below is not None:
        figures["out_of_scope"] = _judge_scope(decision, known, outside)
    return figures


def _judge_scope(decision: ClassDecision, inside: np.ndarray, outside: np.ndarray) -> dict[str, Any]:
    scores = [scope_scores(part, decision.scope_score, decision.temperature) for part in (inside, outside)]
    return {
        "score": decision.scope_score,
        "num_examples": len(outside),
        "recall": float(decision.out_of_scope(outside).mean()),
        "in_scope_rejected": float(decision.out_of_scope(inside).mean()),
        "auc": auc(*scores),
    }


def misclassified(trained: Trained, examples: LabelledTexts, logits: dict[str, np.ndarray]) -> str:
    """The wrong rows of all heads as .tsv, the surest mistakes first."""
    wrong = []
    for name, head in trained.run.data.label_heads().items():
        probabilities = trained.decision(name).probabilities(logits[name])
        for place, label in enumerate(examples.labels[name]):
            found = int(probabilities[place].argmax())
            if label >= 0 and found != label:
                fields = (examples.rows[place], examples.texts[place], name, head.labels[label], head.labels[found])
                wrong.append((float(probabilities[place, found]), fields))
    wrong.sort(key=lambda one: -one[0])
    lines = ["\t".join([*map(str, fields), f"{probability:.4f}"]) for probability, fields in wrong]
    return "\n".join(["row\ttext\thead\tlabel\tpredicted\tprobability", *lines]) + "\n"


def table(head: str, figures: dict[str, Any]) -> str:
    """The figures of one head as aligned lines."""
    calibration, conformal, abstention = (figures[key] for key in ("calibration", "conformal", "abstention"))
    answered = abstention["accuracy_of_answered"]
    lines = [
        f"{head}: {figures['num_examples']:,} texts",
        f"{'accuracy':<14}{figures['accuracy']:>8.4f}",
        f"{'macro_f1':<14}{figures['macro_f1']:>8.4f}",
        f"{'calibration':<14}{calibration['error_after']:>8.4f}  error; {calibration['error_before']:.4f} before "
        f"scaling by temperature {calibration['temperature']:.2f}; {calibration['error_by_chance']:.4f} by chance",
        f"{'sets':<14}{conformal['coverage']:>8.4f}  hold the true label ({conformal['promised']:.2f} promised), "
        f"{conformal['mean_set_size']:.2f} labels each",
        f"{'abstains':<14}{abstention['share']:>8.4f}  of the texts; "
        + (f"accuracy of the rest {answered:.4f}" if answered is not None else "no text is answered"),
    ]
    if "out_of_scope" in figures:
        scope = figures["out_of_scope"]
        lines.append(
            f"{'out of scope':<14}{scope['recall']:>8.4f}  of {scope['num_examples']:,} found by {scope['score']}; "
            f"{scope['in_scope_rejected']:.4f} of the texts in scope rejected; AUC {scope['auc']:.4f}"
        )
    columns, width = ("precision", "recall", "f1"), max(12, *map(len, figures["per_class"])) + 2
    lines.append(f"{'label':<{width}}" + "".join(f"{column:>10}" for column in columns) + f"{'texts':>8}")
    for label, one in figures["per_class"].items():
        numbers = "".join(f"{one[column]:>10.4f}" for column in columns)
        lines.append(f"{label:<{width}}{numbers}{one['support']:>8,}")
    return "\n".join(lines)


def pictures(trained: Trained, examples: LabelledTexts, logits: dict[str, np.ndarray]) -> dict[str, bytes]:
    """A PNG of each head's confusion matrix, named confusion_matrix, or confusion_matrix_<head> where there are more.

    Heads of more than 30 labels are left out. Args: as for `judge`.
    """
    heads = trained.run.data.label_heads()
    drawn = {}
    for name, head in heads.items():
        if len(head.labels) > MOST_PICTURED:
            continue
        labels = np.array(examples.labels[name])
        known = labels >= 0
        counts = metrics.confusion_matrix(labels[known], logits[name].argmax(axis=-1)[known], len(head.labels))
        drawn["confusion_matrix" if len(heads) == 1 else f"confusion_matrix_{name}"] = training.confusion_picture(
            counts, head.labels
        )
    return drawn
