"""When is a version loaded, and how often is it tried again? Not while its files change, and not for ever."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from absl import logging

from serving.server.engine import Engine
from serving.server.folders import contents
from serving.server.states import State, Version
from serving.server.status import Code, StatusError

_SOON = 2.0  # times the longest wait: a version that has served longer is not one that ends again and again


@dataclass(frozen=True)
class LoadPolicy:
    """When a version is loaded, and how often again if that fails. The numbers are the stock server's.

    A folder whose files have changed within `rest_seconds` is still being copied, and waits. A version whose process
    has ended is loaded at once, and after a second, two, four, ... if it ends again and again.
    """

    max_retries: int = 5
    retry_seconds: float = 60.0
    rest_seconds: float = 1.0

    def after_sudden_end(self, ended: Version, error: StatusError) -> Version:
        """The version to be loaded in place of one whose process has ended by itself."""
        now = time.monotonic()
        count = ended.sudden_ends + 1 if now - ended.loaded_at < _SOON * self.retry_seconds else 1
        delay_s = min(2.0 ** (count - 2), self.retry_seconds) if count > 1 else 0.0
        return Version(
            ended.number,
            State.LOADING,
            error,
            contents=ended.contents,
            seen_at=ended.seen_at,
            due_at=now + delay_s,
            sudden_ends=count,
        )


class Attempts:
    """Loads versions, each at its time; one thread at a time.

    Attributes:
      count: of all attempts so far.
    """

    def __init__(self, load: Callable[[Path], Engine], policy: LoadPolicy, lock: threading.Lock) -> None:
        """Loads by `load`; whoever reads or writes a version's state holds `lock`."""
        self.count = 0
        self._load = load
        self._policy = policy
        self._lock = lock

    def is_loaded(self, name: str, version: Version, folder: Path) -> bool:
        """Whether a version of the model `name` is available, after an attempt to load it if one is due."""
        if version.state == State.AVAILABLE:
            return True
        if version.state == State.UNLOADING or not self._is_due(version, folder):
            return False
        return self._try_load(name, version, folder)

    def _is_due(self, version: Version, folder: Path) -> bool:
        """Whether it is time to load a version: its files are at rest, and another attempt is left and due."""
        now, found = time.monotonic(), contents(folder)
        if found is None or found != version.contents:
            state = State.START if version.state == State.END else version.state
            version.contents, version.seen_at, version.loads, version.due_at, version.state = found, now, 0, now, state
        rest_seconds = self._policy.rest_seconds
        if found is None or not found.is_at_rest(rest_seconds, now - version.seen_at):
            version.due_at = now + rest_seconds / 4
            return False
        return version.loads <= self._policy.max_retries and now >= version.due_at

    def _try_load(self, name: str, version: Version, folder: Path) -> bool:
        version.state, version.loads = State.LOADING, version.loads + 1
        self.count += 1
        try:
            engine = self._load(folder)
        except Exception as caught:  # whatever a model does, the other ones are served on
            error = _load_error(folder, caught)
            is_last = version.loads > self._policy.max_retries
            with self._lock:
                version.error, version.due_at = error, time.monotonic() + self._policy.retry_seconds
                version.state = State.END if is_last else State.LOADING
            end = "It is given up." if is_last else f"Next attempt in {self._policy.retry_seconds:g} s."
            logging.error("Loading {name: %s version: %d} failed: %s %s", name, version.number, error, end)
            return False
        with self._lock:
            version.engine, version.error, version.state = engine, None, State.AVAILABLE
            version.loaded_at = time.monotonic()
        logging.info("Successfully loaded servable version {name: %s version: %d}", name, version.number)
        return True


def _load_error(folder: Path, error: Exception) -> StatusError:
    if isinstance(error, StatusError):
        return error
    logging.error("Loading %s failed for a reason that the server does not know.", folder, exc_info=error)
    return StatusError(Code.INTERNAL, f"{folder}: loading failed: {error!r}")
