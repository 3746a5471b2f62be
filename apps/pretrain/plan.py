"""How far does a pretraining get in the time there is? Probes this machine and prints the settings that fit.

python -m apps.pretrain.plan --config configs/pretrain/bert_small.yaml --corpus corpora/mine --budget_minutes 30
"""

import json
import logging
import math
import shlex
from pathlib import Path

from absl import flags

from apps.flags import define_machine_flags, define_run_flags, run_from_flags, run_program
from apps.outputs import whole_file
from apps.pretrain import planning
from apps.pretrain.train import define_data_flags
from kerasllm.config import Run
from kerasllm.errors import ConfigError

FLAGS = flags.FLAGS
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container


def define_flags() -> None:
    """Says what is planned, for how long, and how long to probe."""
    define_run_flags()
    define_machine_flags()
    define_data_flags()
    flags.DEFINE_float("budget_minutes", None, "Minutes that training may take.", required=True, lower_bound=0.0)
    flags.DEFINE_float("probe_s", 60.0, "Seconds of timed steps, over all choices together.", lower_bound=0.0)
    flags.DEFINE_float("memory_gb", None, "Memory that training may use, 10^9 bytes; without it, what is free now.")
    flags.DEFINE_string("output", "plan.json", "File to write, for --plan of apps.pretrain.train.")


def main() -> None:
    """Probes, plans, and prints the plan and the command that follows it."""
    run, memory_gb = run_from_flags(), FLAGS.memory_gb or free_memory_gb()
    if run.train.strategy not in ("one_device", "mirrored"):
        raise ConfigError(
            f"train.strategy={run.train.strategy!r} cannot be probed by one process. Plan for one machine with "
            "--set train.strategy=mirrored; several are at most as many times as fast."
        )

    from apps.pretrain import task
    from apps.pretrain.probing import probe_choices
    from kerasllm import data, training

    logging.getLogger("kerasllm").setLevel(logging.WARNING)  # the probes' own lines would bury the plan
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # which warns of the new graphs that each probe needs
    training.configure_devices(FLAGS.num_devices, FLAGS.num_threads)
    strategy = training.make_strategy(run.train.strategy, FLAGS.num_devices)
    corpus, tables = data.open_corpus(FLAGS.corpus), task.read_tables(FLAGS.labelled, run)
    probes = probe_choices(run, corpus, tables, strategy, FLAGS.probe_s, memory_gb)
    plan = planning.make_plan(run, probes, FLAGS.budget_minutes * 60, memory_gb)
    with whole_file(Path(FLAGS.output)) as file:
        file.write(json.dumps(plan, indent=1) + "\n")
    print(planning.format_plan(plan))
    print(command(run, plan))


def command(run: Run, plan: dict) -> str:
    """The command that trains as planned, a folder's name left open."""
    given = [f"--labelled {shlex.quote(labelled)}" for labelled in FLAGS.labelled]
    given += [f"--set {shlex.quote(override)}" for override in FLAGS.set]
    lines = [
        "python -m apps.pretrain.train" + (f" --config {shlex.quote(FLAGS.config)}" if FLAGS.config else ""),
        f"--corpus {shlex.quote(FLAGS.corpus)} --workdir WORKDIR --plan {shlex.quote(FLAGS.output)}",
        " ".join([*given, *planning.set_lines(plan)]),
    ]
    return "To train so:\n" + " \\\n  ".join(lines)


def free_memory_gb() -> float:
    """10^9 bytes that are free for a process that begins; infinite where the system does not say it."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return math.inf
    lines = dict(line.split(":", 1) for line in meminfo.read_text(encoding="utf-8").splitlines())
    limits = [int(lines["MemAvailable"].split()[0]) << 10]
    texts = [Path(name).read_text(encoding="utf-8").strip() for name in LIMITS if Path(name).exists()]
    return min([*limits, *(int(text) for text in texts if text.isdigit())]) / 1e9


if __name__ == "__main__":
    define_flags()
    run_program(main)
