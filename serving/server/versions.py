"""Which versions of which models are served? Loads, switches and unloads as folders and configurations change."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from absl import logging

from kerasllm.errors import ServingError
from serving.server.attempts import Attempts, LoadPolicy
from serving.server.engine import Engine
from serving.server.folders import numbered_folders
from serving.server.labels import Labels
from serving.server.states import ModelConfig, State, Version
from serving.server.status import Code, StatusError

__all__ = ["LoadPolicy", "ModelConfig", "Models", "State", "Version"]

_LONGEST_NAP_S = 1.0  # of the thread that looks, so that it learns what others have put on its list
_SHORTEST_NAP_S = 0.02


@dataclass
class _Model:
    config: ModelConfig
    versions: dict[int, Version] = field(default_factory=dict)
    folders: dict[int, Path] | None = None  # None: not looked at yet, or one cannot look
    complaint: str = ""
    is_removed: bool = False  # from the configuration; its versions stay listed

    def available(self) -> list[int]:
        return [number for number, version in self.versions.items() if version.state == State.AVAILABLE]

    def wanted(self) -> list[int]:
        """The versions with a folder that the policy could choose, newest first."""
        folders = self.folders or {}
        return sorted((number for number in self.config.specific or folders if number in folders), reverse=True)

    def has_given_up(self) -> bool:
        versions = self.versions.values()
        return any(version.error for version in versions) and not any(version.is_pending for version in versions)


class Models:
    """All served models. Requests borrow an engine; one thread at a time loads and unloads, until `stopped` is set."""

    def __init__(
        self,
        configs: Sequence[ModelConfig],
        stopped: threading.Event | None = None,
        load: Callable[[Path], Engine] = Engine,
        policy: LoadPolicy | None = None,
        labels: Labels | None = None,
        has_ended: threading.Event | None = None,
    ) -> None:
        """Knows of no version yet; `has_ended` is set by whoever sees a version's process end by itself."""
        self._models = {config.name: _Model(config) for config in configs}
        self._labels = labels or Labels()
        self._lock = threading.Lock()  # around the states of versions
        self._policy = policy or LoadPolicy()
        self._attempts = Attempts(load, self._policy, self._lock)
        self._looking = threading.Lock()  # one thread loads and unloads
        self._configuring = threading.Lock()  # one change of configuration after another
        self._stopped = stopped or threading.Event()
        self._has_ended = has_ended or threading.Event()
        self._poll_seconds = 0.0
        self._thread: threading.Thread | None = None

    @property
    def load_attempts(self) -> int:
        """How often a version has been loaded so far, with success or without."""
        return self._attempts.count

    @contextmanager
    def use(self, name: str, number: int | None = None, label: str | None = None) -> Iterator[tuple[int, Engine]]:
        """Lends the engine of a version, the newest available one by default; it is not closed meanwhile.

        Raises:
          StatusError: NOT_FOUND, or INVALID_ARGUMENT for a label, with the stock server's text; UNAVAILABLE, the
            version's process has ended, and it is started again.
        """
        version = self._borrow(name, number if label is None else self._labels.number(name, label))
        assert version.engine is not None, "an available version has an engine"
        try:
            yield version.number, version.engine
        finally:
            self._give_back(version)

    def versions(self, name: str) -> list[Version]:
        """Every version seen of a model, newest first; empty for an unknown model."""
        with self._lock:
            model = self._models.get(name)
            return sorted(model.versions.values(), key=lambda version: -version.number) if model else []

    def is_busy(self) -> bool:
        """Whether a request is running on any version, or one is being loaded."""
        if self._looking.locked():
            return True
        with self._lock:
            return any(version.users for model in self._models.values() for version in model.versions.values())

    def names(self) -> list[str]:
        """The names of the configured models, sorted."""
        with self._lock:
            return sorted(name for name, model in self._models.items() if not model.is_removed)

    def start(self, poll_seconds: float) -> None:
        """Returns once every model has a version available, then polls in a thread (0: never again).

        Raises:
          ServingError: a model's versions all fail to load, or there are none and polling is off.
          StatusError: a label names a version that is not there yet, and that is not allowed.
        """
        self._poll_seconds = poll_seconds
        labels = {name: model.config.labels for name, model in self._models.items()}
        self._labels.check(labels, lambda _: ())
        self._labels.assign(labels)
        failed = self._wait_for(self.names())
        if failed:
            raise ServingError(_unavailable(failed, "servable(s)"))
        if not self._stopped.is_set():
            self._thread = threading.Thread(target=self._keep_polling, name="versions", daemon=True)
            self._thread.start()

    def reload(self, configs: Sequence[ModelConfig], is_awaited: Callable[[], bool] = lambda: True) -> None:
        """Takes over a configuration in place of the old one, and returns once each new model has a version available.

        Args:
          configs: all models; those that are not named are unloaded.
          is_awaited: asked now and then; when it says no, the new models load on without anyone waiting for them.

        Raises:
          StatusError: FAILED_PRECONDITION, a label names a version that cannot answer: nothing is changed. UNKNOWN, a
            new model's versions all fail to load: the new configuration holds. UNAVAILABLE, the server is ending.
        """
        with self._configuring:
            labels = {config.name: config.labels for config in configs}
            self._labels.check(labels, self._available)
            new = [config.name for config in configs if config.name not in self.names()]
            with self._looking:
                self._configure(configs)
            self._labels.assign(labels)
            self.poll()
            try:
                failed = self._wait_for(new, is_awaited)
            except ServingError as error:
                raise StatusError(Code.UNKNOWN, str(error)) from error
        if failed:
            raise StatusError(Code.UNKNOWN, _unavailable(failed, "model(s)"))
        if self._stopped.is_set():
            raise StatusError(Code.UNAVAILABLE, "The server is ending; it does not wait for new models any more.")

    def close(self, patience_seconds: float = -1) -> None:
        """Ends polling and unloads every version once its requests have ended.

        Args:
          patience_seconds: how long to wait for a version that is being loaded; then nothing is unloaded. Less than 0:
            as long as it takes.
        """
        self._stopped.set()
        self._has_ended.set()  # wakes the thread
        if not self._looking.acquire(timeout=patience_seconds):
            return
        try:
            for model in self._models.values():
                for number in model.available():
                    self._retire(model.versions[number])
        finally:
            self._looking.release()
        if self._thread is not None:
            self._thread.join()

    def poll(self, is_looking: bool = True) -> None:
        """Loads what is new and what is to be tried again, then unloads what is not wanted any more.

        Args:
          is_looking: whether the base paths are looked at again, or only the versions that are known.
        """
        with self._looking:
            for model in list(self._models.values()):
                if self._stopped.is_set():
                    return
                if is_looking or model.folders is None:
                    self._look(model)
                if model.folders is None:
                    continue
                serving = self._load_wanted(model, model.folders)
                if serving or not model.folders:  # the old version stays until another one can take over
                    for number in model.available():
                        if number not in serving:
                            self._retire(model.versions[number])

    def _available(self, name: str) -> list[int]:
        with self._lock:
            return self._models[name].available() if name in self._models else []

    def _configure(self, configs: Sequence[ModelConfig]) -> None:
        with self._lock:
            models = dict(self._models)
            for config in configs:
                models.setdefault(config.name, _Model(config)).config = config
            for name, model in models.items():
                model.is_removed = name not in [config.name for config in configs]
            self._models = models

    def _wait_for(self, names: Sequence[str], is_awaited: Callable[[], bool] = lambda: True) -> list[_Model]:
        """Returns when each model has a version available, or those that have not and will not."""
        is_looking = True
        while not self._stopped.is_set() and is_awaited():
            self.poll(is_looking)
            waiting = [model for model in (self._models[name] for name in names) if not model.available()]
            failed = [model for model in waiting if model.has_given_up()]
            if failed or not waiting:
                return failed
            hopeless = [model for model in waiting if not model.wanted()]
            if hopeless and not self._poll_seconds:
                raise ServingError(f"{hopeless[0].complaint} Export a model there, or turn polling on.")
            is_looking = bool(self._poll_seconds)
            self._stopped.wait(self._nap(time.monotonic() + (self._poll_seconds or _LONGEST_NAP_S)))
        return []

    def _keep_polling(self) -> None:
        next_look = self._next_look()
        while not self._stopped.is_set():
            self._has_ended.wait(self._nap(next_look))
            self._has_ended.clear()
            is_looking = time.monotonic() >= next_look
            if is_looking:
                next_look = self._next_look()
            try:
                self.poll(is_looking)
            except Exception:
                logging.exception("Looking for new versions failed; the served ones stay, and it is tried again.")

    def _next_look(self) -> float:
        return time.monotonic() + (self._poll_seconds or float("inf"))

    def _nap(self, next_look: float) -> float:
        """Seconds until there is something to do: a look at the folders, another attempt, files at rest."""
        with self._lock:
            pending = [
                version.due_at
                for model in self._models.values()
                for version in model.versions.values()
                if version.is_pending
            ]
        return min(max(min([next_look, *pending]) - time.monotonic(), _SHORTEST_NAP_S), _LONGEST_NAP_S)

    def _look(self, model: _Model) -> None:
        base = model.config.base_path
        if model.is_removed:
            model.folders = {}
            return
        try:
            model.folders = numbered_folders(base)
        except OSError as error:
            model.folders = None
            _complain(model, f"Could not find base path {base} for servable {model.config.name} ({error}).")
            return
        if not model.folders:
            _complain(
                model,
                f"No versions of servable {model.config.name} found under base path {base}. Did you forget to name "
                "your leaf directory as a number (eg. '/1/')?",
            )
            return
        missing = sorted(set(model.config.specific) - set(model.folders))
        if missing:
            _complain(
                model,
                f"Versions {', '.join(map(str, missing))} of servable {model.config.name}, which its version policy "
                f"names, were not found under base path {base}.",
            )

    def _load_wanted(self, model: _Model, folders: dict[int, Path]) -> set[int]:
        """Loads wanted versions; a version that does not load gives its place to the next older one."""
        wanted = model.wanted()
        places = len(wanted) if model.config.specific or model.config.latest is None else model.config.latest
        serving: set[int] = set()
        tried: set[int] = set()
        for number in wanted:
            if len(serving) == places:
                break
            tried.add(number)
            if self._is_loaded(model, number, folders[number]):
                serving.add(number)
        for number, version in model.versions.items():
            if version.is_pending and number not in tried:  # removed, or overtaken by a newer one
                version.state, version.contents = State.END, None
        return serving

    def _is_loaded(self, model: _Model, number: int, folder: Path) -> bool:
        with self._lock:
            version = model.versions.setdefault(number, Version(number))
        error = version.engine.why_ended() if version.state == State.AVAILABLE and version.engine else None
        if error is not None:
            version = self._begin_again(model, version, error)
        return self._attempts.is_loaded(model.config.name, version, folder)

    def _begin_again(self, model: _Model, ended: Version, error: StatusError) -> Version:
        """Puts a version that is to be loaded in the place of one whose process has ended; its users keep that one."""
        logging.error("{name: %s version: %d}: %s", model.config.name, ended.number, error)
        version = self._policy.after_sudden_end(ended, error)
        with self._lock:
            model.versions[ended.number] = version
        self._retire(ended)
        return version

    def _borrow(self, name: str, number: int | None) -> Version:
        with self._lock:
            model = self._models.get(name)
            available = model.available() if model else []
            if model is None or not available or (number is not None and number not in available):
                raise _refusal(model, name, number)
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
    version.engine, version.contents, version.state = None, None, State.END


def _refusal(model: _Model | None, name: str, number: int | None) -> StatusError:
    """What a request is told whose version is not there, or not now."""
    for version in model.versions.values() if model else ():
        if version.is_restarting and version.error and number in (None, version.number):
            return StatusError(Code.UNAVAILABLE, f"Version {version.number} of {name}: {version.error.message}")
    wanted = f"Latest({name})" if number is None else f"Specific({name}, {number})"
    return StatusError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")


def _complain(model: _Model, complaint: str) -> None:
    if complaint != model.complaint:
        logging.warning(complaint)
        model.complaint = complaint


def _unavailable(models: Sequence[_Model], things: str) -> str:
    failures = [
        f"{{{{name: {model.config.name} version: {version.number}}} due to error: {version.error}}}, "
        for model in models
        for version in model.versions.values()
        if version.error
    ]
    return f"{len(failures)} {things} did not become available: {{{''.join(failures)}}}"
