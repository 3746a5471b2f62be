"""Pretrains BERT or GPT on prepared shards; the same --workdir continues where it stopped.

python -m apps.pretrain.train --config configs/pretrain/bert_small.yaml --corpus corpora/mine --workdir runs/bert_small
"""

import json

from absl import flags

from apps.flags import (
    define_machine_flags,
    define_run_flags,
    define_worker_flags,
    profile_steps,
    run_from_flags,
    run_program,
    strategy_from_flags,
)

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Says where from, where to, and how much of the machine."""
    define_run_flags()
    define_machine_flags()
    define_worker_flags()
    flags.DEFINE_string("corpus", None, "Folder that apps.pretrain.prepare wrote.", required=True)
    flags.DEFINE_string("workdir", None, "Folder of the run: run.yaml, checkpoints, TensorBoard.", required=True)


def main() -> None:
    """Opens the corpus, trains, and prints the held-out scores as JSON."""
    run = run_from_flags()

    from apps.pretrain import task
    from kerasllm import data, losses, models, training

    strategy = strategy_from_flags(run)  # before the first tensor: workers find each other only then
    corpus = data.open_corpus(FLAGS.corpus)
    train, held_out = corpus.split("train"), corpus.split("held_out")
    trainer = training.Trainer(
        lambda: models.from_run(run, corpus.tokenizer.vocab_size),
        losses.heads_for(run),
        run,
        FLAGS.workdir,
        strategy,
        actions=[
            training.TensorBoard(make_texts=task.text_samples(corpus, run)),
            training.EmbeddingProjector(corpus.tokenizer.words, lambda model: model.backbone.word_table),
            *profile_steps(),
        ],
        initialize=task.initializer(corpus, run),
    )
    if trainer.is_chief:
        corpus.tokenizer.save(trainer.workdir.tokenizer)
    results = trainer.fit(
        batches_from=lambda step: data.pretraining_batches(train, run, start_step=step),
        total_steps=run.train.total_steps(data.steps_per_epoch(train, run)),
        evaluation_batches=lambda: data.pretraining_batches(held_out, run),
    )
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    define_flags()
    run_program(main)
