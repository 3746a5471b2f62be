"""Which versions of which models are served? Watches folders, loads, switches and unloads without a lost request."""

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from absl import logging

from kerasllm.errors import ServingError
from serving.server.engine import Engine
from serving.server.status import Code, StatusError

MAX_LOADS = 6  # of an unchanged folder: one and five retries, as the stock server
RETRY_SECONDS = 60.0


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
    """

    name: str
    base_path: Path
    latest: int | None = 1
    specific: tuple[int, ...] = ()


@dataclass
class Version:
    """One version that has been seen; it stays listed for the life of the process, as in the stock server."""

    number: int
    state: State = State.START
    error: StatusError | None = None
    engine: Engine | None = None
    users: int = 0  # requests running on the engine
    loads: int = 0
    loaded_at: float = 0.0
    content: object = None  # the folder's files when loading last failed


@dataclass
class _Model:
    config: ModelConfig
    versions: dict[int, Version] = field(default_factory=dict)
    complaint: str = ""

    def available(self) -> list[int]:
        return [number for number, version in self.versions.items() if version.state == State.AVAILABLE]


class Models:
    """All served models. Requests borrow an engine; one thread at a time polls the folders, until `stopped` is set."""

    def __init__(
        self,
        configs: Sequence[ModelConfig],
        stopped: threading.Event | None = None,
        load: Callable[[Path], Engine] = Engine,
    ) -> None:
        self._models = {config.name: _Model(config) for config in configs}
        self._load = load
        self._lock = threading.Lock()
        self._stopped = stopped or threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def use(self, name: str, number: int | None = None) -> Iterator[tuple[int, Engine]]:
        """Lends the engine of a version, the newest available one by default; it is not closed meanwhile.

        Raises:
          StatusError: NOT_FOUND with the stock server's text.
        """
        version = self._borrow(name, number)
        assert version.engine is not None, "an available version has an engine"
        try:
            yield version.number, version.engine
        finally:
            self._give_back(version)

    def names(self) -> list[str]:
        """The names of all models, sorted."""
        with self._lock:
            return sorted(self._models)

    def versions(self, name: str) -> list[Version]:
        """Every version seen of a model, newest first; empty for an unknown model."""
        with self._lock:
            model = self._models.get(name)
            return sorted(model.versions.values(), key=lambda version: -version.number) if model else []

    def start(self, poll_seconds: float) -> None:
        """Returns once every model has a version available, then polls in a thread (0: never again).

        Raises:
          ServingError: a model's versions all fail to load, or there are none and polling is off.
        """
        while not self._stopped.is_set():
            self.poll()
            waiting = [model for model in self._models.values() if not model.available()]
            failed = [model for model in waiting if model.versions]
            if failed:
                raise ServingError(_unavailable(failed))
            if not waiting:
                break
            if not poll_seconds:
                raise ServingError(f"{waiting[0].complaint} Export a model there, or turn polling on.")
            self._stopped.wait(poll_seconds)
        if poll_seconds and not self._stopped.is_set():
            self._thread = threading.Thread(
                target=self._keep_polling, args=(poll_seconds,), name="versions", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """Ends polling and unloads every version once its requests have ended."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
        for model in self._models.values():
            for number in model.available():
                self._retire(model.versions[number])

    def poll(self) -> None:
        """Looks at the folders once: loads what is new, then unloads what is not wanted any more."""
        for model in self._models.values():
            folders = self._folders(model)
            if folders is None:
                continue
            serving = self._load_wanted(model, folders)
            if serving or not folders:  # the old version stays until another one can take over
                for number in model.available():
                    if number not in serving:
                        self._retire(model.versions[number])

    def _keep_polling(self, seconds: float) -> None:
        while not self._stopped.wait(seconds):
            try:
                self.poll()
            except Exception:
                logging.exception("Looking for new versions failed; the served ones stay, and it is tried again.")

    def _folders(self, model: _Model) -> dict[int, Path] | None:
        """The numbered folders, by number (of two spellings the later in sort order); None where one cannot look."""
        base = model.config.base_path
        try:
            names = sorted(path.name for path in base.iterdir() if re.fullmatch(r"\d{1,18}", path.name))
        except OSError as error:
            self._complain(model, f"Could not find base path {base} for servable {model.config.name} ({error}).")
            return None
        if not names:
            self._complain(
                model,
                f"No versions of servable {model.config.name} found under base path {base}. Did you forget to name "
                "your leaf directory as a number (eg. '/1/')?",
            )
        return {int(name): base / name for name in names}

    def _complain(self, model: _Model, complaint: str) -> None:
        if complaint != model.complaint:
            logging.warning(complaint)
            model.complaint = complaint

    def _load_wanted(self, model: _Model, folders: dict[int, Path]) -> set[int]:
        """Loads wanted versions; a version that does not load gives its place to the next older one."""
        specific = model.config.specific
        wanted = sorted(specific or folders, reverse=True)
        places = len(wanted) if specific or model.config.latest is None else model.config.latest
        serving: set[int] = set()
        for number in wanted:
            if len(serving) == places:
                break
            if number in folders and self._is_loaded(model, number, folders[number]):
                serving.add(number)
        return serving

    def _is_loaded(self, model: _Model, number: int, folder: Path) -> bool:
        with self._lock:
            version = model.versions.setdefault(number, Version(number))
        if version.state == State.AVAILABLE:
            return True
        if version.state == State.UNLOADING:
            return False
        content = _content(folder)
        if version.error and version.content == content:
            if version.loads >= MAX_LOADS or time.monotonic() < version.loaded_at + RETRY_SECONDS:
                return False
        else:
            version.loads = 0
        return self._try_load(model, version, folder, content)

    def _try_load(self, model: _Model, version: Version, folder: Path, content: object) -> bool:
        version.state, version.loads, version.content = State.LOADING, version.loads + 1, content
        try:
            engine = self._load(folder)
        except StatusError as error:
            version.state, version.error, version.loaded_at = State.END, error, time.monotonic()
            logging.error("Loading {name: %s version: %d} failed: %s", model.config.name, version.number, error)
            return False
        with self._lock:
            version.engine, version.error, version.state = engine, None, State.AVAILABLE
        logging.info("Successfully loaded servable version {name: %s version: %d}", model.config.name, version.number)
        return True

    def _borrow(self, name: str, number: int | None) -> Version:
        with self._lock:
            model = self._models.get(name)
            available = model.available() if model else []
            if model is None or not available or (number is not None and number not in available):
                wanted = f"Latest({name})" if number is None else f"Specific({name}, {number})"
                raise StatusError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")
            version = model.versions[max(available) if number is None else number]
            version.users += 1
            return version

    def _give_back(self, version: Version) -> None:
        with self._lock:
            version.users -= 1
            is_last = version.users == 0 and version.state == State.UNLOADING
        if is_last:
            _close(version)

    def _retire(self, version: Version) -> None:
        """Takes a version out of service; whoever uses it last closes it."""
        with self._lock:
            version.state = State.UNLOADING
            is_idle = version.users == 0
        if is_idle:
            _close(version)


def _close(version: Version) -> None:
    assert version.engine is not None, "only a loaded version is closed"
    version.engine.close()
    version.engine, version.state = None, State.END


def _content(folder: Path) -> object:
    """Names, sizes and times of a folder's files: another value means that it is worth another try."""
    try:
        files = [(path, path.stat()) for path in sorted(folder.rglob("*"))]
    except OSError:
        return None
    return [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in files]


def _unavailable(models: Sequence[_Model]) -> str:
    failures = [
        f"{{{{name: {model.config.name} version: {version.number}}} due to error: {version.error}}}, "
        for model in models
        for version in model.versions.values()
    ]
    return f"{len(failures)} servable(s) did not become available: {{{''.join(failures)}}}"
