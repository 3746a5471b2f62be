"""What does the training loop cost? Its steps, with and without checkpoints, beside bare calls of the same graph.

    python -m benchmarks.loop_overhead --corpus corpora/mixed

One Trainer trains as `apps.pretrain.train` does, with a look at the numbers every 100 steps; before each hundred the
same compiled step is called a hundred times on batches of a data set of its own, and nothing else. Then the same with a
checkpoint every hundred steps. Prints each hundred, medians and ratios.
"""

import statistics
import time
from typing import TYPE_CHECKING

from absl import flags

from apps.flags import run_program
from benchmarks.pretrain_sizes import define_size_flags, make_trainer, run_of_sizes

if TYPE_CHECKING:
    from kerasllm.data import Corpus
    from kerasllm.training import Trainer

FLAGS = flags.FLAGS
HUNDRED = 100


def define_flags() -> None:
    """Says on what and how large."""
    define_size_flags(hidden_dim=256, batch=16)


def main() -> None:
    """Measures without and with checkpoints."""
    from kerasllm import data, training

    training.configure_devices(0, FLAGS.num_threads)
    corpus = data.open_corpus(FLAGS.corpus)
    for title, every in (("no checkpoints", 10**6), (f"a checkpoint every {HUNDRED} steps", HUNDRED)):
        bare, loop = measure(corpus, every)
        print(title)
        for name, seconds in (("bare", bare), ("loop", loop)):
            print(f"  {name}  " + "  ".join(f"{second:.2f}" for second in seconds) + " s")
        pairs = [one / other for one, other in zip(loop, bare, strict=True)]
        print(f"  loop / bare: median of the pairs {statistics.median(pairs):.3f}, of the medians ", end="")
        print(f"{statistics.median(loop) / statistics.median(bare):.3f}", flush=True)


def measure(corpus: "Corpus", checkpoint_every: int) -> tuple[list[float], list[float]]:
    """Seconds of each hundred steps, of the bare graph and of the loop, by turns."""
    from kerasllm import data, training

    first = HUNDRED  # the graph is made before
    run = run_of_sizes(
        steps=first + HUNDRED * (FLAGS.rounds + (checkpoint_every > HUNDRED)),  # the last step is always kept
        log_every=HUNDRED,
        evaluate_every=10**6,
        checkpoint_every=checkpoint_every,
    )
    batches = data.pretraining_batches(corpus.split("train"), run)
    bare: list[float] = []
    loop: list[float] = []

    class Turns(training.Action):
        """At each hundred: ends the loop's measurement, measures the bare graph, begins the loop's."""

        def __init__(self) -> None:
            self.began = 0.0

        def before_step(self, trainer: "Trainer", step: int) -> None:
            if step % HUNDRED or step < first:
                return
            if step > first:
                loop.append(time.perf_counter() - self.began)
            next_batch = iter(batches).__next__
            trainer.train_step(next_batch(), 0)  # the data set has started
            start = time.perf_counter()
            for number in range(HUNDRED):
                numbers = trainer.train_step(next_batch(), number)
            numbers.numpy()
            bare.append(time.perf_counter() - start)
            del next_batch  # its threads end here, on neither side's account
            self.began = time.perf_counter()

        def on_checkpoint(self, trainer: "Trainer", step: int, checkpoint: object) -> None:
            if step == trainer.total_steps:
                loop.append(time.perf_counter() - self.began)

    trainer = make_trainer(run, corpus, [Turns(), training.TensorBoard()])
    trainer.fit(lambda step: batches, run.train.steps or 0)
    if checkpoint_every > HUNDRED:
        loop.pop()
        bare.pop()
    return bare, loop


if __name__ == "__main__":
    define_flags()
    run_program(main)
