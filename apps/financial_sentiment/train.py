r"""Fine-tunes the classifier of financial texts; the same --workdir continues where it stopped.

python -m apps.financial_sentiment.train --config configs/financial_sentiment/base.yaml --data data/finance \
    --init_from runs/bert --workdir runs/finance
"""

from apps.flags import run_program
from apps.text_classification import define_train_flags, train

if __name__ == "__main__":
    define_train_flags()
    run_program(train)
