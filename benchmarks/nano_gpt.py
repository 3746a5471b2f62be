"""How near does the smallest GPT come to nanoGPT's? Loss per character of Shakespeare's plays, and the time to it.

    python -m benchmarks.nano_gpt --config configs/pretrain/nano.yaml --data DIR/tinyshakespeare/input.txt

Nine tenths of the text train, the last tenth judges, as in nanoGPT; all of it in rows of 64 bytes, which are
characters here, as the text is ASCII. nanoGPT draws its rows at random places and judges 240 of them, here an epoch
holds each byte once and all rows are judged. nanoGPT's figures are those of its README, of another machine: the loss
can be compared, the time says the order of magnitude.
"""

import json
import tempfile
import time
from pathlib import Path

from absl import flags

from apps.flags import define_machine_flags, define_run_flags, run_from_flags, run_program

FLAGS = flags.FLAGS
README_LOSS, README_MINUTES = 1.88, 3  # of nanoGPT, "about 3 minutes" on a MacBook
TRAIN_SHARE = 0.9


def define_flags() -> None:
    """Says what is computed, and on which text."""
    define_run_flags()
    define_machine_flags()
    flags.DEFINE_string("data", None, "input.txt of tinyshakespeare.", required=True)
    flags.DEFINE_string("workdir", None, "Folder that the run stays in; without it, it is not kept.")


def main() -> None:
    """Prepares both parts, trains, and prints the loss beside nanoGPT's."""
    run = run_from_flags()

    from apps.pretrain import task
    from kerasllm import data, training

    training.configure_devices(FLAGS.num_devices, FLAGS.num_threads)
    text = Path(FLAGS.data).read_text(encoding="utf-8")
    cut = int(TRAIN_SHARE * len(text))
    with tempfile.TemporaryDirectory() as folder:
        train, held_out = Path(folder) / "train.txt", Path(folder) / "held_out.txt"
        train.write_text(text[:cut], encoding="utf-8")
        held_out.write_text(text[cut:], encoding="utf-8")
        data.prepare_corpus([str(train)], Path(folder) / "corpus", run, held_out_inputs=[str(held_out)])
        corpus = data.open_corpus(Path(folder) / "corpus")
        start = time.perf_counter()
        workdir = Path(FLAGS.workdir or Path(folder) / "workdir")
        trainer = task.make_trainer(run, corpus, workdir, training.make_strategy(run.train.strategy))
        corpus.tokenizer.save(trainer.workdir.tokenizer)
        results = task.fit(trainer, corpus)
        minutes = (time.perf_counter() - start) / 60
    loss = results["held_out"]["causal_lm_loss"]
    print(f"{'':10} {'loss per character':>19} {'minutes':>8}")
    print(f"{'kerasllm':10} {loss:19.3f} {minutes:8.1f}")
    print(f"{'nanoGPT':10} {README_LOSS:19.2f} {README_MINUTES:8}  (its README)")
    print(json.dumps({"loss": loss, "minutes": minutes, "steps": results["step"]}))


if __name__ == "__main__":
    define_flags()
    run_program(main)
