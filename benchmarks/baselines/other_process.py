"""How is a side measured that needs an environment of its own? A process that waits, and answers a line by a number."""

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def start_side(python: str, program: str, settings: Mapping[str, Any]) -> Callable[[object], float]:
    """Starts a program of this folder and waits until it says that it is ready; it ends with this process.

    Args:
      python: interpreter of its environment.
      program: name of its file.
      settings: its argument, as JSON.

    Returns: a function that writes a line to it and reads the number that it answers.

    Raises:
      RuntimeError: it did not start; its own error stands above.
    """
    process = subprocess.Popen(
        [python, str(Path(__file__).parent / program), json.dumps(settings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    asks, answers = process.stdin, process.stdout
    assert asks is not None
    assert answers is not None
    if answers.readline().strip() != "ready":
        raise RuntimeError(f"{program} did not start in the environment of {python}: see its error above.")

    def ask(line: object) -> float:
        asks.write(f"{line}\n")
        asks.flush()
        return float(answers.readline())

    return ask
