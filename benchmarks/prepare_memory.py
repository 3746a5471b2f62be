"""Does preparation need more memory for more text? Prints peak memory and speed for inputs of several sizes.

python -m benchmarks.prepare_memory --megabytes 10 --megabytes 100
"""

import itertools
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import app, flags

_MEGABYTES = flags.DEFINE_multi_integer("megabytes", [10, 100], "Sizes of the generated inputs; may be repeated.")
_KIND = flags.DEFINE_enum("kind", "wordpiece", ["wordpiece", "sentencepiece"], "Kind of vocabulary.")


def write_text(path: Path, megabytes: int) -> None:
    """Documents of random words with the frequencies of a language (Zipf), the same at every call."""
    rng = random.Random(1)
    letters = "etaoinshrdlucmfwypvbgkqjxz"
    words = ["".join(rng.choices(letters, range(26, 0, -1), k=rng.randint(2, 9))) for _ in range(50_000)]
    weights = [1 / (rank + 1) for rank in range(len(words))]
    cumulative = list(itertools.accumulate(weights))
    with path.open("w") as file:
        document = 0
        while file.tell() < megabytes << 20:
            document += 1
            drawn = iter(rng.choices(words, cum_weights=cumulative, k=2000))
            sentences = (" ".join([next(drawn).capitalize(), *(next(drawn) for _ in range(19))]) for _ in range(100))
            file.write(f"<DOC> {document}\n" + ". ".join(sentences) + ".\n")


def measure(megabytes: int, kind: str) -> tuple[float, float]:
    """Peak memory of the program in MB and its time in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        text, settings = Path(folder) / "text.txt", Path(folder) / "run.yaml"
        write_text(text, megabytes)
        settings.write_text(f"tokenizer: {{kind: {kind}}}\n")
        program = [sys.executable, "-m", "apps.pretrain.prepare", f"--config={settings}", f"--input={text}"]
        started = time.perf_counter()
        subprocess.run([*program, f"--output={folder}/corpus"], check=True, capture_output=True)
        return _peak_megabytes(), time.perf_counter() - started


def main(argv: list[str]) -> None:
    """Runs the sizes in rising order, since the system reports the peak of all children so far."""
    del argv
    print(f"{'input MB':>9} {'peak MB':>9} {'seconds':>9} {'MB/s':>6}")
    for megabytes in sorted(_MEGABYTES.value):
        peak, seconds = measure(megabytes, _KIND.value)
        print(f"{megabytes:9d} {peak:9.0f} {seconds:9.1f} {megabytes / seconds:6.1f}", flush=True)


def _peak_megabytes() -> float:
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / (1 << 20)


if __name__ == "__main__":
    app.run(main)
