"""Does an export run where only TensorFlow and tensorflow_text are? A script that loads it as TensorFlow Serving does.

    python session_run.py EXPORT CALLS.npz ANSWERS.npz

Arrays in CALLS are named `signature/input`, those in ANSWERS `signature/output`; strings are UTF-8 bytes.
"""

import sys

import numpy as np


def main(directory: str, calls_path: str, answers_path: str) -> None:
    """Loads the export in a fresh version-1 Session and runs every call."""
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  registers its operations

    calls: dict[str, dict[str, np.ndarray]] = {}
    with np.load(calls_path, allow_pickle=True) as arrays:
        for key in arrays.files:
            signature, _, name = key.rpartition("/")
            calls.setdefault(signature, {})[name] = arrays[key]
    answers: dict[str, np.ndarray] = {}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        signatures = tf.compat.v1.saved_model.load(session, ["serve"], directory).signature_def
        for signature, inputs in calls.items():
            definition = signatures[signature]
            feeds = {definition.inputs[name].name: array for name, array in inputs.items()}
            fetches = {name: info.name for name, info in definition.outputs.items()}
            for name, array in session.run(fetches, feeds).items():
                answers[f"{signature}/{name}"] = array
    np.savez(answers_path, **answers)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
