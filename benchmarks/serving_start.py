"""How large is an export, and how long does a server take from its start to the first answer? And for what?

    python -m benchmarks.serving_start --model "$(scripts/get_minilm)"

Exports the sentence encoder in float32 and bfloat16. Prints the bytes on disk beside those of the weights. Then, by
turns: `python -m serving.server` on each export, from the start of the process to its port (it opens when the model is
loaded and warm) and to the first answer; and a process that takes the same steps one by one (the file's own
--steps_of), which tells what the time is spent on. The files are in the system's cache: nothing here measures a disk.
"""

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import flags

from apps.flags import run_program
from benchmarks.minilm_exports import write_exports
from kerasllm.errors import ConfigError

FLAGS = flags.FLAGS
TEXT = "Operating profit rose to EUR 13.1 mn from EUR 8.7 mn a year earlier."
WHOLE = ("server: port open", "server: first answer")


def define_flags() -> None:
    """Says on what and how often."""
    flags.DEFINE_string("model", None, "Hugging Face folder of a BERT sentence encoder.")
    flags.DEFINE_integer("rounds", 5, "Starts of each kind.", lower_bound=1)
    flags.DEFINE_string("steps_of", None, "Takes the steps of a start for one version's folder, and prints them.")


def main() -> None:
    """Measures sizes and starts; with --steps_of it is one start.

    Raises:
      ConfigError: there is nothing to export.
    """
    if FLAGS.steps_of:
        print(json.dumps(steps_of(Path(FLAGS.steps_of))))
        return
    if FLAGS.model is None:
        raise ConfigError("--model FOLDER says what is exported; scripts/get_minilm prints one.")
    with tempfile.TemporaryDirectory() as folder:
        exports = write_exports(FLAGS.model, 128, Path(folder))
        for name, directory in exports.items():
            print(f"{name}: {sizes_of(directory, exports['float32'])}")
        found: dict[str, list[dict[str, float]]] = {name: [] for name in exports}
        for number in range(FLAGS.rounds):
            for name in exports if number % 2 == 0 else reversed(exports):
                found[name].append({**start_server(exports[name]), **take_steps(exports[name])})
        for name, rounds in found.items():
            print(f"{name}: seconds, median (lowest to highest) of {FLAGS.rounds} starts")
            for step in rounds[0]:
                seconds = [one[step] for one in rounds]
                print(f"  {step:<44}{statistics.median(seconds):>7.2f} ({min(seconds):.2f} to {max(seconds):.2f})")


def sizes_of(directory: Path, exact: Path) -> str:
    """Bytes of a version's parts, beside those of the weights in float32."""
    import numpy as np
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(exact / "variables" / "variables"))
    kinds = reader.get_variable_to_dtype_map()
    shapes = [shape for name, shape in reader.get_variable_to_shape_map().items() if kinds[name].is_floating]
    weights = 4 * sum(int(np.prod(shape)) for shape in shapes)
    variables = sum(path.stat().st_size for path in (directory / "variables").iterdir())
    everything = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    return (
        f"variables {variables:,} bytes, {variables / weights:.3f}x of the weights in float32; "
        f"with graph and notes {everything:,}, {everything / weights:.3f}x"
    )


def start_server(directory: Path) -> dict[str, float]:
    """Seconds from exec of a server until its port is open, and until it has answered."""
    from serving.clients import PredictClient

    command = [sys.executable, "-m", "serving.server", "--port=0", "--model_name=m"]
    start = time.perf_counter()
    process = subprocess.Popen(
        [*command, f"--model_base_path={directory.parent}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        announced = re.search(r"at (\S+:\d+)", next(line for line in process.stdout if line.startswith("Running")))
        assert announced is not None
        is_open = time.perf_counter() - start
        with PredictClient(announced[1], "m", deadline_s=60) as client:
            client.predict({"text": [TEXT]})
        return dict(zip(WHOLE, (is_open, time.perf_counter() - start), strict=True))
    finally:
        process.terminate()
        process.wait()


def take_steps(directory: Path) -> dict[str, float]:
    """Seconds of each step in a process of its own; the first is what it takes to get to its first line."""
    started = time.time()
    command = [sys.executable, "-m", "benchmarks.serving_start", f"--steps_of={directory}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    steps: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    began = steps.pop("began")
    return {"interpreter and flags": began - started, **steps}


def steps_of(directory: Path) -> dict[str, float]:
    """Seconds of each step of a start, and the time of day at which they began."""
    began, steps, last = time.time(), {}, time.perf_counter()

    def mark(step: str) -> None:
        nonlocal last
        now = time.perf_counter()
        steps[step], last = now - last, now

    import tensorflow as tf

    mark("import of tensorflow")
    import tensorflow_text  # noqa: F401

    mark("import of tensorflow_text")
    from serving.server import services  # noqa: F401
    from serving.server.engine import Engine
    from serving.server.warmup import warm_up

    mark("import of the server, grpc and the protocol")
    engine = Engine(directory)
    mark("load")
    warm_up(engine, directory)
    mark("warm-up requests")
    signature = engine.signatures["embed"]
    feeds = [(signature.inputs["text"].name, tf.constant([TEXT]).numpy())]
    engine.run(feeds, [signature.outputs["embedding"].name])
    mark("first call after them")
    return {"began": began, **steps}


if __name__ == "__main__":
    define_flags()
    run_program(main)
