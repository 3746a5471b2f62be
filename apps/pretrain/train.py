"""Pretrains BERT or GPT on prepared shards; the same --workdir continues where it stopped.

python -m apps.pretrain.train --config configs/pretrain/bert_small.yaml --corpus corpora/mine --workdir runs/bert_small
"""

import json
import sys

from absl import flags

from apps.flags import (
    define_machine_flags,
    define_profile_flag,
    define_run_flags,
    define_worker_flags,
    profile_steps,
    run_from_flags,
    run_program,
    strategy_from_flags,
)
from apps.pretrain import planning

FLAGS = flags.FLAGS


def define_data_flags() -> None:
    """Says what is trained on."""
    flags.DEFINE_string("corpus", None, "Folder that apps.pretrain.prepare wrote.", required=True)
    flags.DEFINE_multi_string(
        "labelled", [], "NAME=FOLDER with train.* and validation.* of a task of the run's mix; may be repeated."
    )


def define_flags() -> None:
    """Says where from, where to, and how much of the machine."""
    define_run_flags()
    define_machine_flags()
    define_profile_flag()
    define_worker_flags()
    define_data_flags()
    flags.DEFINE_string("workdir", None, "Folder of the run: run.yaml, checkpoints, TensorBoard.", required=True)
    flags.DEFINE_string("plan", None, "plan.json of apps.pretrain.plan: at the end it is set beside what became of it.")


def main() -> None:
    """Opens the corpus, trains, and prints the held-out scores as JSON."""
    run = run_from_flags()
    plan = planning.read_plan(FLAGS.plan, run) if FLAGS.plan else None

    from apps.pretrain import task
    from kerasllm import data

    strategy = strategy_from_flags(run)  # before the first tensor: workers find each other only then
    corpus, tables = data.open_corpus(FLAGS.corpus), task.read_tables(FLAGS.labelled, run)
    trainer = task.make_trainer(run, corpus, FLAGS.workdir, strategy, profile_steps())
    if trainer.is_chief:
        corpus.tokenizer.save(trainer.workdir.tokenizer)
    results = task.fit(trainer, corpus, tables)
    if plan is not None and trainer.is_chief:
        ledger = json.loads((trainer.workdir.path / "ledger.json").read_text(encoding="utf-8"))
        results["plan"] = planning.compare(plan, ledger)
        print(planning.format_comparison(results["plan"]), file=sys.stderr)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    define_flags()
    run_program(main)
