"""How well does a GPT write? Held-out perplexity by token, byte and character, and the variety of its texts.

python -m apps.pretrain.evaluate --workdir runs/gpt_small --corpus corpora/mine --output metrics.json
"""

import json
from pathlib import Path

from absl import flags

from apps.flags import define_machine_flags, run_program
from apps.outputs import whole_file
from kerasllm.errors import ConfigError, DataError

FLAGS = flags.FLAGS
PROMPT_SHARE = 4  # one in so many tokens of a row is its prompt


def define_flags() -> None:
    """Says what is judged, by what, and where to."""
    define_machine_flags()
    flags.DEFINE_string("workdir", None, "Workdir of a GPT.", required=True)
    flags.DEFINE_enum("checkpoint", "best", ["best", "newest"], "Lowest held-out loss, or the last one.")
    flags.DEFINE_string(
        "corpus", None, "Folder that apps.pretrain.prepare wrote; its held-out part judges.", required=True
    )
    flags.DEFINE_integer("rows", 10**9, "Held-out rows at most.", lower_bound=1)
    flags.DEFINE_integer("samples", 64, "Rows whose beginnings are continued.", lower_bound=1)
    flags.DEFINE_float("temperature", 1.0, "Of the continuations; 0 takes the most probable word.", lower_bound=0.0)
    flags.DEFINE_string("output", None, "File to write: metrics.json.", required=True)


def main() -> None:
    """Judges, writes the figures and prints them.

    Raises:
      ConfigError: the workdir holds no GPT.
      DataError: the corpus is of another vocabulary.
    """
    from kerasllm import data, training, writing
    from kerasllm.trained import load

    training.configure_devices(FLAGS.num_devices, FLAGS.num_threads)
    trained = load(FLAGS.workdir, FLAGS.checkpoint)
    run = trained.run
    if run.backbone.architecture != "gpt":
        raise ConfigError(f"--workdir {FLAGS.workdir} holds a run of {run.objective.task}, not a GPT.")
    corpus = data.open_corpus(FLAGS.corpus)
    if corpus.tokenizer.fingerprint != trained.tokenizer.fingerprint:
        raise DataError(
            f"--corpus {FLAGS.corpus} has another vocabulary than {FLAGS.workdir}. Prepare it with that one."
        )
    train = run.train.model_copy(update={"evaluation_rows": FLAGS.rows})
    objective = run.objective.model_copy(update={"task": "gpt_pretraining"})  # of a tuned one too
    run = run.model_copy(update={"train": train, "objective": objective})
    batches = data.pretraining_batches(corpus.split("held_out"), run)
    full = batches.unbatch().filter(lambda row: row["sequence_ids"][-1] > 0)  # not those that fill up a batch
    rows = next(iter(full.batch(FLAGS.samples)))["token_ids"].numpy()
    held_out = writing.expectations(trained, batches)
    variety = writing.continued(trained, rows, rows.shape[1] // PROMPT_SHARE, FLAGS.temperature, run.seed)
    with whole_file(Path(FLAGS.output)) as file:
        file.write(json.dumps({"held_out": held_out, "variety": variety}, indent=1) + "\n")
    for part, values in (("held out", held_out), *variety.items()):
        print(part, *(f"  {name:26}{value:16,.4f}" for name, value in values.items()), sep="\n")


if __name__ == "__main__":
    define_flags()
    run_program(main)
