"""Trains the generator of an assistant, a GPT that answers from retrieved replies; `index` exports it with the rest.

python -m apps.customer_service.generator --config configs/customer_service/base.yaml --workdir runs/support \
    [--init_from runs/gpt]
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from apps.flags import define_machine_flags, define_run_flags, run_from_flags, run_program
from kerasllm.config import Run, part_of
from kerasllm.errors import ConfigError

if TYPE_CHECKING:
    from kerasllm.text import Tokenizer

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Says what is trained, from where, and how much of the machine it takes."""
    define_run_flags()
    define_machine_flags()
    flags.DEFINE_string("workdir", None, "Folder that the train program wrote.", required=True)
    flags.DEFINE_string("init_from", None, "Workdir of a GPT, pretrained or tuned; without it, random weights.")


def main() -> None:
    """Retrieves for every question of the dialogues, without itself, trains, and prints the results as JSON."""
    application = run_from_flags()

    from apps.customer_service.assembly import assemble
    from apps.customer_service.generating import PART
    from apps.customer_service.grounding import learned
    from apps.customer_service.task import KEPT, read_pairs
    from kerasllm import fine_tuning, training

    training.configure_devices(FLAGS.num_devices, FLAGS.num_threads)
    run, workdir = generator_run(application, PART), Path(FLAGS.workdir)
    assembled = assemble(workdir)
    history, validation = (read_pairs(workdir / KEPT, part) for part in ("train", "validation"))
    run = run.model_copy(update={"assistant": assembled.run.assistant})  # it reads the turns that retrieval reads
    if FLAGS.init_from is None:
        tokenizer = vocabulary(run, workdir)
    else:
        run, tokenizer = fine_tuning.starting_point(run, FLAGS.init_from, None)
        if run.backbone.architecture != "gpt":
            raise ConfigError(
                f"--init_from {FLAGS.init_from} is a {run.backbone.architecture}. Give the workdir of a GPT."
            )
    train, judged = (
        learned(assembled.index, pairs, assembled.slots, tokenizer, run, history) for pairs in (history, validation)
    )
    strategy = training.make_strategy(run.train.strategy, FLAGS.num_devices)
    actions = [training.TensorBoard()]
    target = workdir / PART
    results = fine_tuning.tune_on_replies(run, tokenizer, (train, judged), target, FLAGS.init_from, strategy, actions)
    print(json.dumps(results, indent=2))


def generator_run(application: Run, part: str) -> Run:
    """The run of the generator.

    Raises:
      ConfigError: the configuration has no such part, or its backbone is no GPT.
    """
    if part not in application.parts:
        raise ConfigError(f"the configuration has no parts.{part}. Copy it from configs/customer_service/base.yaml.")
    run = part_of(application, part)
    if run.objective.task != "dialogue" or run.backbone.architecture != "gpt":
        raise ConfigError(
            f"parts.{part} has objective.task={run.objective.task} and backbone.architecture="
            f"{run.backbone.architecture}; a generator is a gpt that learns dialogue."
        )
    return run


def vocabulary(run: Run, workdir: Path) -> "Tokenizer":
    """A vocabulary of the training dialogues: it is the same each time."""
    from apps.customer_service.task import KEPT, read_pairs
    from kerasllm import text

    if run.tokenizer.kind == "byte":
        return text.ByteTokenizer()
    texts = [
        words for pair in read_pairs(workdir / KEPT, "train") for words in (pair.context, pair.question, pair.reply)
    ]
    return text.train_sentencepiece(texts, run.tokenizer.vocab_size)


if __name__ == "__main__":
    define_flags()
    run_program(main)
