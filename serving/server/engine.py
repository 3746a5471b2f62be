"""How is a loaded version asked? By its signatures and by named tensors, wherever it is computed."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

from serving.server.declarations import read_declarations
from serving.server.session_model import SessionModel
from serving.server.status import StatusError, timed_out


class Model(Protocol):
    """A SavedModel that computes: in a Session of this process, or in a process of its own."""

    @property
    def signatures(self) -> Mapping[str, meta_graph_pb2.SignatureDef]:
        """All signatures by name, as they stand in the SavedModel."""

    def run(
        self, feeds: Sequence[tuple[str, np.ndarray]], fetches: Sequence[str], timeout_s: float | None
    ) -> list[Any]:
        """Computes the tensors named in `fetches`."""

    def why_ended(self) -> StatusError | None:
        """Why it computes no more although nobody has closed it; None: it does."""

    def close(self) -> None:
        """Ends it and gives its memory back."""


OpenModel = Callable[[Path, Sequence[str], config_pb2.ConfigProto | None], Model]


class Engine:
    """A loaded version.

    Attributes:
      declared: what the version says of itself beside its graph.

    Raises:
      StatusError: the folder holds no SavedModel, or one that is incomplete or damaged.
    """

    def __init__(
        self,
        directory: Path,
        tags: Sequence[str] = ("serve",),
        session: config_pb2.ConfigProto | None = None,
        open_model: OpenModel = SessionModel,
    ) -> None:
        self._model = open_model(directory, tags, session)
        self.declared = read_declarations(directory, self.signatures)

    @property
    def signatures(self) -> Mapping[str, meta_graph_pb2.SignatureDef]:
        """All signatures by name, as they stand in the SavedModel."""
        return self._model.signatures

    def run(
        self, feeds: Sequence[tuple[str, np.ndarray]], fetches: Sequence[str], timeout_s: float | None = None
    ) -> list[Any]:
        """Computes the tensors named in `fetches`; shapes are checked by the ops alone, as in TensorFlow Serving.

        Raises:
          StatusError: with TensorFlow's code and text; DEADLINE_EXCEEDED after `timeout_s` seconds; UNAVAILABLE if what
            computes has ended.
        """
        if timeout_s is not None and timeout_s <= 0:
            raise timed_out()
        return self._model.run(feeds, fetches, timeout_s)

    def why_ended(self) -> StatusError | None:
        """Why it computes no more although nobody has closed it; None: it does."""
        return self._model.why_ended()

    def before_service(self) -> AbstractContextManager[None]:
        """A block in which no one else asks it: for warm-up requests."""
        return nullcontext()

    def close(self) -> None:
        """Gives its memory back."""
        self._model.close()
