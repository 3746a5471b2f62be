"""What is known of a model and of a version? Configuration, state, and the history of loading it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from serving.server.engine import Engine
from serving.server.folders import Contents
from serving.server.status import StatusError


class State(IntEnum):
    """ModelVersionStatus.State of the protocol."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class ModelConfig:
    """A model's name, the folder of its versions, and which of them are wanted.

    `latest` counts the newest versions to serve; None means all; `specific` overrides it with chosen numbers.
    `labels` are other names of versions.
    """

    name: str
    base_path: Path
    latest: int | None = 1
    specific: tuple[int, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Version:
    """One version that has been seen; it stays listed for the life of the process, as in the stock server."""

    number: int
    state: State = State.START
    error: StatusError | None = None  # of the last attempt to load it
    engine: Engine | None = None
    users: int = 0  # requests running on the engine
    loads: int = 0  # of these contents, since it last ended by itself
    loaded_at: float = 0.0  # when the last of them succeeded
    sudden_ends: int = 0  # of its process, one soon after the other
    contents: Contents | None = None  # as last looked at
    seen_at: float = 0.0  # when they were first seen
    due_at: float = 0.0  # when it is worth another look

    @property
    def is_pending(self) -> bool:
        """Whether it may become available without anything in its folder changing."""
        return self.state in (State.START, State.LOADING)

    @property
    def is_restarting(self) -> bool:
        """Whether it has been available, and is to be again as soon as it can."""
        return self.is_pending and self.sudden_ends > 0
