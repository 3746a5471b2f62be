"""How good is it? From summed totals to the numbers that are reported; measures of generated texts and classifiers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# C classes, N examples

LANGUAGE_MODEL_HEADS = ("masked_lm", "causal_lm")  # whose mean loss is that of a word: perplexity says something


def summarize(
    totals: Mapping[str, Mapping[str, float]], targets: Mapping[str, float], weights: Mapping[str, float]
) -> dict[str, float]:
    """Means over real targets.

    Args:
      totals: for each head its summed "loss" (nats) and "correct".
      targets: for each head the number of real targets; a head with none is reported as NaN and left out of the sum.
      weights: for each head its factor in the sum of losses.

    Returns: "loss", and for each head `<head>_loss`, `<head>_accuracy`, for language models `<head>_perplexity`.
    """
    results = {"loss": 0.0}
    for head, sums in totals.items():
        count = float(targets[head])
        loss = float(sums["loss"]) / count if count else math.nan
        results[f"{head}_loss"] = loss
        results[f"{head}_accuracy"] = float(sums["correct"]) / count if count else math.nan
        if head in LANGUAGE_MODEL_HEADS:
            results[f"{head}_perplexity"] = perplexity(loss)
        if count:
            results["loss"] += weights[head] * loss
    return results


def perplexity(loss: float) -> float:
    """exp(loss) of a mean loss in nats; infinity where that overflows."""
    return math.exp(loss) if loss < 700 else math.inf


def distinct_share(texts: Sequence[Sequence[Any]], n: int) -> float:
    """Different n-grams of all texts together, as a share of all their n-grams; NaN where there is none.

    Args:
      texts: of tokens or words each.
      n: tokens of an n-gram.

    Source: Li et al. 2016, section 5.2 (distinct-n).
    """
    grams = [gram for text in texts for gram in _n_grams(text, n)]
    return len(set(grams)) / len(grams) if grams else math.nan


def repeated_share(texts: Sequence[Sequence[Any]], n: int = 4) -> float:
    """The share of a text's n-grams that it has had before, as a mean over the texts that have any; else NaN.

    Source: Welleck et al. 2020, section 6 (seq-rep-n).
    """
    shares = [1 - len(set(grams)) / len(grams) for text in texts if (grams := _n_grams(text, n))]
    return float(np.mean(shares)) if shares else math.nan


def _n_grams(text: Sequence[Any], n: int) -> list[tuple[Any, ...]]:
    return [tuple(text[start : start + n]) for start in range(len(text) - n + 1)]


def confusion_matrix(labels: Any, predictions: Any, num_classes: int) -> np.ndarray:
    """Counts [C, C] int64: row = true class, column = predicted class.

    Raises:
      ValueError: the two differ in length, or hold a class outside 0 ... C - 1.
    """
    labels, predictions = np.asarray(labels, np.int64), np.asarray(predictions, np.int64)
    if labels.shape != predictions.shape or labels.ndim != 1:
        raise ValueError(f"labels {labels.shape} and predictions {predictions.shape} must be two lists of one length")
    both = np.concatenate([labels, predictions])
    if both.size and (both.min() < 0 or both.max() >= num_classes):
        raise ValueError(
            f"classes run from {both.min()} to {both.max()}, num_classes={num_classes} allows 0 and up to it"
        )
    counts = np.bincount(labels * num_classes + predictions, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def classification_report(matrix: np.ndarray, names: Any) -> dict[str, Any]:
    """Accuracy, macro-F1 and per-class figures of a confusion matrix [C, C] (row = true class).

    A ratio whose denominator is 0 is 0, as in scikit-learn; macro-F1 is the plain mean over all C classes.

    Args:
      matrix: counts, see confusion_matrix.
      names: C class names.

    Returns: {"accuracy", "macro_f1", "num_examples", "per_class": {name: {"precision", "recall", "f1", "support"}}}.
    """
    hits, support, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    precision, recall = _ratio(hits, predicted), _ratio(hits, support)
    f1 = _ratio(2 * hits, support + predicted)
    per_class = {
        name: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(s)}
        for name, p, r, f, s in zip(names, precision, recall, f1, support, strict=True)
    }
    return {
        "accuracy": float(_ratio(hits.sum(), matrix.sum())),
        "macro_f1": float(f1.mean()),
        "num_examples": int(matrix.sum()),
        "per_class": per_class,
    }


def _ratio(numerator: Any, denominator: Any) -> np.ndarray:
    result: np.ndarray = np.zeros(np.shape(numerator))
    np.divide(numerator, denominator, out=result, where=np.asarray(denominator) != 0)
    return result
