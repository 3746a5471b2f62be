"""Scores a classifier on a labelled file: metrics, promises kept or not, confusion matrix, and the wrong rows.

python -m apps.financial_sentiment.evaluate --workdir runs/finance --data test.tsv --output metrics.json
"""

from apps.flags import run_program
from apps.text_classification import define_evaluate_flags, evaluate

if __name__ == "__main__":
    define_evaluate_flags()
    run_program(evaluate)
