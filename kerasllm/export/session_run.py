"""Does an export run where only TensorFlow and tensorflow_text are? A script that loads it as TensorFlow Serving does.

    python session_run.py EXPORT WANTED.pickle FOUND.pickle

WANTED is a list of (signature, tries, repeats): `tries` are alternative inputs {name: array}, the first that runs
counts and is run `repeats` times more for its latency. FOUND is {"error": why it does not load} or {"answers": [...]},
an answer {"outputs": {name: array}, "tried": index, "seconds": [...]} or {"error": what the first try raised}.
"""

import pickle
import sys
import time
from typing import Any


def main(directory: str, wanted_path: str, found_path: str) -> None:
    """Loads the export in a fresh version-1 Session and runs every call."""
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  registers its operations

    with open(wanted_path, "rb") as file:
        wanted = pickle.load(file)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        try:
            signatures = tf.compat.v1.saved_model.load(session, ["serve"], directory).signature_def
        except Exception as error:  # the loader raises ValueError, RuntimeError, OSError, a parse error or an OpError
            found: dict[str, Any] = {"error": _text(error)}
        else:
            found = {"answers": [_answer(session, signatures[name], *rest) for name, *rest in wanted]}
    with open(found_path, "wb") as file:
        pickle.dump(found, file)


def _answer(session: Any, definition: Any, tries: list[dict[str, Any]], repeats: int) -> dict[str, Any]:
    fetches = {name: info.name for name, info in definition.outputs.items()}
    errors: list[str] = []
    for index, inputs in enumerate(tries):
        try:
            feeds = {definition.inputs[name].name: array for name, array in inputs.items()}
            outputs = session.run(fetches, feeds)
        except Exception as error:  # an OpError of the graph, or a ValueError or KeyError of what was fed
            errors.append(_text(error))
            continue
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            session.run(fetches, feeds)
            seconds.append(time.perf_counter() - start)
        return {"outputs": outputs, "tried": index, "seconds": seconds}
    return {"error": errors[0] if errors else "there is nothing to send"}


def _text(error: Exception) -> str:
    """The kind of an error and its first line that says something; Session.run puts where it happened around it."""
    lines = (getattr(error, "message", None) or str(error)).splitlines()
    around = ("Graph execution error:", "Detected at node", "Node:", "<stack traces", " ", "\t")
    telling = [line for line in lines if line and not line.startswith(around)]
    return f"{type(error).__name__}: {telling[0].strip() if telling else 'it said nothing'}"


if __name__ == "__main__":
    main(*sys.argv[1:])
