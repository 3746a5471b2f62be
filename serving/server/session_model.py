"""How is a model computed? In a version-1 Session, the same DirectSession that TensorFlow Serving uses."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  registers the tokenizers' ops; without it an export with text does not load
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.client import pywrap_tf_session

from serving.server.status import Code, StatusError

_LONGEST_TIMEOUT_S = 7 * 24 * 3600.0


class SessionModel:
    """A SavedModel that is loaded into this process: its signatures, and a Session that computes named tensors.

    Raises:
      StatusError: the folder holds no SavedModel, or one that is incomplete or damaged.
    """

    def __init__(self, directory: Path, tags: Sequence[str], session: config_pb2.ConfigProto | None = None) -> None:
        if not any((directory / name).is_file() for name in ("saved_model.pb", "saved_model.pbtxt")):
            raise StatusError(
                Code.NOT_FOUND,
                f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {directory}. Check that "
                "the directory exists and that you have the right permissions for accessing it.",
            )
        self._graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=self._graph, config=session)
        try:
            with self._graph.as_default():
                self._meta_graph = tf.compat.v1.saved_model.load(self._session, list(tags), str(directory))
            self._session._extend_graph()  # a model without variables has not been run yet: hand its nodes over
        except tf.errors.OpError as error:
            self._session.close()
            raise StatusError(Code(error.error_code), error.message) from error
        except Exception as error:  # the loader raises ValueError, RuntimeError, OSError or a parse error for bad files
            self._session.close()
            raise StatusError(Code.INVALID_ARGUMENT, f"{directory}: not a complete SavedModel: {error}") from error
        self._endpoints: dict[str, Any] = {}

    @property
    def signatures(self) -> dict[str, meta_graph_pb2.SignatureDef]:
        """All signatures by name, as they stand in the SavedModel."""
        return self._meta_graph.signature_def

    def run(
        self, feeds: Sequence[tuple[str, np.ndarray]], fetches: Sequence[str], timeout_s: float | None = None
    ) -> list[Any]:
        """Computes the tensors named in `fetches`; shapes are checked by the ops alone, as in TensorFlow Serving.

        Raises:
          StatusError: with TensorFlow's code and text; DEADLINE_EXCEEDED after `timeout_s` seconds.
        """
        endpoints = {self._endpoint(name): array for name, array in feeds}
        try:
            return _run(self._session, endpoints, [self._endpoint(name) for name in fetches], timeout_s)
        except tf.errors.OpError as error:
            raise StatusError(Code(error.error_code), error.message) from error

    def why_ended(self) -> StatusError | None:
        """None: a session computes until it is closed."""
        return None

    def close(self) -> None:
        """Ends the session and gives its variables back."""
        self._session.close()

    def _endpoint(self, name: str) -> Any:
        if name not in self._endpoints:
            try:
                self._endpoints[name] = self._graph.get_tensor_by_name(name)._as_tf_output()
            except (KeyError, ValueError) as error:
                raise StatusError(
                    Code.INVALID_ARGUMENT,
                    f"Tensor {name}, specified in either feed_devices or fetch_devices was not found in the Graph",
                ) from error
        return self._endpoints[name]


def _run(session: Any, feeds: dict[Any, np.ndarray], fetches: list[Any], timeout_s: float | None) -> list[Any]:
    """Hands feeds to the C++ session unchecked.

    TensorFlow's private call, because the public `Session.run` refuses shapes that the stock server accepts and costs
    four times as much. Should a release move it, `session.run(fetches, feeds, options)` does the same for well-formed
    requests; tests/unit/serving/test_engine.py says what would change.
    """
    if timeout_s is None:
        return pywrap_tf_session.TF_SessionRun_wrapper(session._session, None, feeds, fetches, [], None)
    milliseconds = max(1, int(min(timeout_s, _LONGEST_TIMEOUT_S) * 1000))
    options = pywrap_tf_session.TF_NewBufferFromString(
        tf.compat.v1.RunOptions(timeout_in_ms=milliseconds).SerializeToString()
    )
    try:
        return pywrap_tf_session.TF_SessionRun_wrapper(session._session, options, feeds, fetches, [], None)
    finally:
        pywrap_tf_session.TF_DeleteBuffer(options)
