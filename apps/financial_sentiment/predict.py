"""Scores a file of texts in bulk: each row comes out with its labels and probabilities, in the same order.

python -m apps.financial_sentiment.predict --workdir runs/finance --input news.txt --output scored.tsv
"""

from apps.flags import run_program
from apps.text_classification import define_predict_flags, predict

if __name__ == "__main__":
    define_predict_flags()
    run_program(predict)
