"""How does a version's folder become an engine that is ready for requests? Loaded, then warmed up."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tensorflow.core.protobuf import config_pb2

from serving.server.engine import Engine
from serving.server.warmup import warm_up

MakeEngine = Callable[[Path, Sequence[str], config_pb2.ConfigProto | None], Engine]


@dataclass(frozen=True)
class Loader:
    """Loads engines.

    Attributes:
      tags: of the meta graph to take from a SavedModel.
      session: of each model; threads and share of the GPU's memory.
      num_warmup_runs: how often each warm-up request is run; 0: not at all.
      make_engine: of a folder, tags and session; Engine, or one that joins requests.
    """

    tags: Sequence[str] = ("serve",)
    session: config_pb2.ConfigProto | None = None
    num_warmup_runs: int = 1
    make_engine: MakeEngine = Engine

    def __call__(self, folder: Path) -> Engine:
        """An engine that has answered its warm-up requests.

        Raises:
          StatusError: the folder is no whole SavedModel, or a warm-up request fails.
        """
        engine = self.make_engine(folder, self.tags, self.session)
        if self.num_warmup_runs:
            try:
                with engine.before_service():
                    warm_up(engine, folder, self.num_warmup_runs)
            except Exception:
                engine.close()
                raise
        return engine
