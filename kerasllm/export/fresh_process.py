"""How is an export run elsewhere? In a new Python with TensorFlow and tensorflow_text, in a version-1 Session."""

import pickle
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Wanted:
    """A signature to run.

    Attributes:
      signature: its key.
      tries: alternative inputs by name; the first that runs counts.
      repeats: further runs of it that are timed.
    """

    signature: str
    tries: Sequence[Mapping[str, np.ndarray]]
    repeats: int = 0


@dataclass(frozen=True)
class Answer:
    """What a signature gave: outputs, the place of its inputs in `tries`, seconds of each repeat; or an error."""

    outputs: Mapping[str, np.ndarray]
    tried: int = 0
    seconds: tuple[float, ...] = ()
    error: str = ""


class NotLoadable(Exception):
    """The export does not load in a version-1 Session; the text says why."""


def run_in_fresh_process(directory: Path, wanted: Sequence[Wanted]) -> list[Answer]:
    """Loads a SavedModel as TensorFlow Serving does, in another process, and runs signatures.

    Raises:
      NotLoadable: it does not load, or the process died over it.
    """
    with tempfile.TemporaryDirectory() as folder:
        sent, found_path = Path(folder) / "wanted.pickle", Path(folder) / "found.pickle"
        plain = [(one.signature, [dict(inputs) for inputs in one.tries], one.repeats) for one in wanted]
        sent.write_bytes(pickle.dumps(plain))
        script = Path(__file__).with_name("session_run.py")
        command = [sys.executable, "-P", str(script), str(directory), str(sent), str(found_path)]
        finished = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if finished.returncode:
            raise NotLoadable(f"the process ended with {finished.returncode}: {_last_line(finished.stderr)}")
        found = pickle.loads(found_path.read_bytes())
    if "error" in found:
        raise NotLoadable(found["error"])
    return [
        Answer({}, error=one["error"])
        if "error" in one
        else Answer(one["outputs"], one["tried"], tuple(one["seconds"]))
        for one in found["answers"]
    ]


def _last_line(text: str) -> str:
    lines = text.strip().splitlines() or ["it said nothing"]
    return next((line for line in reversed(lines) if "Error" in line), lines[-1])
