"""Which flags do all programs share, and what happens around a program's main? No TensorFlow here: --help is quick."""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import app, flags
from absl import logging as absl_logging

from kerasllm.config import Run, load_run
from kerasllm.errors import ConfigError, KerasLLMError

if TYPE_CHECKING:
    import tensorflow as tf

FLAGS = flags.FLAGS


def define_run_flags() -> None:
    """Defines --config and --set, which say what is computed."""
    flags.DEFINE_string("config", None, "YAML file that says what is computed; without it the defaults hold.")
    flags.DEFINE_multi_string("set", [], "Override of one setting, section.key=value; may be repeated.")


def define_machine_flags() -> None:
    """Defines --num_devices and --num_threads, which say how much of the machine is used."""
    flags.DEFINE_integer("num_devices", 0, "Devices of the mirrored strategy; 0: all there are.", lower_bound=0)
    flags.DEFINE_integer("num_threads", 0, "Threads of one operation; 0: as many as cores.", lower_bound=0)


def define_profile_flag() -> None:
    """Defines --profile, for programs that train."""
    flags.DEFINE_string("profile", None, "FIRST,LAST: profile of the steps from FIRST up to LAST, for TensorBoard.")


def define_worker_flags() -> None:
    """Defines --worker_index, for programs that several processes can run together."""
    flags.DEFINE_integer(
        "worker_index",
        None,
        "Which of cluster.workers this process is, with train.strategy=multi_worker_mirrored; without it the variable "
        "KERASLLM_WORKER_INDEX or TF_CONFIG says it.",
        lower_bound=0,
    )


def strategy_from_flags(run: Run) -> "tf.distribute.Strategy":
    """The devices and processes to compute with; to be called before anything is computed with TensorFlow.

    Raises:
      ConfigError: they are not there, or the process's place among the workers is not said.
    """
    from kerasllm import training

    index = os.environ.get("KERASLLM_WORKER_INDEX", "") if FLAGS.worker_index is None else str(FLAGS.worker_index)
    if not (index == "" or index.isdigit()):
        raise ConfigError(f"the variable KERASLLM_WORKER_INDEX={index!r} is no number from 0 on.")
    training.configure_devices(FLAGS.num_devices, FLAGS.num_threads)
    return training.make_strategy(run.train.strategy, FLAGS.num_devices, run.cluster, int(index) if index else None)


def profile_steps() -> list[Any]:
    """The action that --profile asks for, if any.

    Raises:
      ConfigError: it is not two rising numbers.
    """
    if FLAGS.profile is None:
        return []
    from kerasllm.training import Profile

    first, _, last = FLAGS.profile.partition(",")
    if not (first.isdigit() and last.isdigit() and int(first) < int(last)):
        raise ConfigError(f"--profile {FLAGS.profile}: expected FIRST,LAST with FIRST < LAST, for example 20,30.")
    return [Profile(int(first), int(last))]


def run_from_flags() -> Run:
    """The run that --config and --set describe.

    Raises:
      ConfigError: as `load_run` does.
    """
    return load_run(FLAGS.config, FLAGS.set)


def run_program(main: Callable[[], Any]) -> None:
    """Parses flags, calls `main`, and turns an error of ours into one clear line and exit code 1."""

    def body(argv: list[str]) -> None:
        if len(argv) > 1:
            print(f"{Path(argv[0]).name}: unexpected argument {argv[1]!r}. Flags start with --.", file=sys.stderr)
            sys.exit(2)
        absl_logging.set_verbosity(absl_logging.WARNING)  # TensorFlow's notes go through absl
        logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True)
        logging.getLogger("kerasllm").setLevel(logging.INFO)
        try:
            main()
        except KerasLLMError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes would bury our one line
    for module, shared in list(FLAGS.flags_by_module_dict().items()):  # --help shows the main module's flags only
        for flag in shared if module.startswith("apps.") else ():
            FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    app.run(body)
