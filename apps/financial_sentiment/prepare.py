r"""Labelled files in, one folder out: train.tsv, validation.tsv and test.tsv without a text in two of them.

python -m apps.financial_sentiment.prepare --config configs/financial_sentiment/base.yaml \
    --input twitter_fin_sentiment=train.tsv --input twitter_fin_topic=topics.tsv --output data/finance
"""

from apps.flags import run_program
from apps.text_classification import define_prepare_flags, prepare

if __name__ == "__main__":
    define_prepare_flags()
    run_program(prepare)
