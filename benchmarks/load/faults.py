"""What goes wrong in a server's life? Calls that cannot succeed, of a model that cannot work, one after another."""

import itertools
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.load.sides import PREDICT
from serving.clients import arrays, messages

FAULTY = "faulty"  # name of the model that throws and hangs


def write_faulty(directory: Path) -> None:
    """A SavedModel that throws for x <= 0 (serving_default), one that takes long (slow) and one that never ends."""
    import tensorflow as tf

    def throw(x: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([tf.debugging.assert_positive(x, "x has to be positive")]):
            return {"y": tf.sqrt(x)}

    def spin(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.while_loop(lambda y: y[0] < np.inf, lambda y: [tf.tanh(y)], [x])[0]}

    def work(x: tf.Tensor) -> dict[str, tf.Tensor]:
        matrix = tf.fill([200, 200], x[0])
        matrix = tf.while_loop(lambda i, m: i < 4000, lambda i, m: (i + 1, tf.tanh(m @ m)), [0, matrix])[1]
        return {"y": x + 0 * matrix[0, 0]}

    spec = tf.TensorSpec([None], tf.float32)
    signatures = {
        "serving_default": tf.function(throw).get_concrete_function(x=spec),
        "slow": tf.function(work).get_concrete_function(x=spec),
        "endless": tf.function(spin).get_concrete_function(x=spec),
    }
    tf.saved_model.save(tf.Module(), str(directory), signatures)


class Faults:
    """A thread that makes faulty calls until it is stopped; leave the block, and it is.

    Args:
      address: HOST:PORT.
      model: name of a healthy model with the input `text`.
      pause_s: between two calls.

    Attributes:
      outcomes: how often each kind ended with each code.
    """

    def __init__(self, address: str, model: str, pause_s: float = 0.05) -> None:
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self._channel = grpc.insecure_channel(address)
        self._pause_s, self._stop = pause_s, threading.Event()
        text, number = ["Profit rose."], np.array([-1.0], np.float32)
        self._calls: dict[str, tuple[bytes, float]] = {  # request and deadline by kind
            "no message": (b"\xff\xff\xff", 10.0),
            "no model": (b"", 10.0),
            "unknown model": (_request("nobody", "text", text), 10.0),
            "unknown input": (_request(model, "txt", text), 10.0),
            "wrong type": (_request(model, "text", number), 10.0),
            "too short a deadline": (_request(model, "text", text * 8), 0.002),
            "throws": (_request(FAULTY, "x", number), 10.0),
            "hangs": (_request(FAULTY, "x", number, "endless"), 0.1),
            "cancelled": (_request(model, "text", text * 8), 10.0),
        }
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Faults":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._channel.close()

    def _run(self) -> None:
        ask = self._channel.unary_unary(PREDICT)
        for kind in itertools.cycle(self._calls):
            if self._stop.wait(self._pause_s):
                return
            request, deadline_s = self._calls[kind]
            call = ask.future(request, timeout=deadline_s)
            if kind == "cancelled":
                self._stop.wait(0.005)
                call.cancel()
            self.outcomes[kind, call.code().name] += 1


def _request(model: str, name: str, value: Any, signature: str = "") -> bytes:
    request = messages.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    request.inputs[name].CopyFrom(arrays.to_proto(value))
    content: bytes = request.SerializeToString()
    return content
