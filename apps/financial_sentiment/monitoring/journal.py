"""What is kept on disk, so that a monitor killed at any moment neither loses nor repeats an alert?

One file, state.json, holds everything that the next line's outcome depends on: the positions in the input, the windows,
and the alerts of the last commit (the outbox). It is replaced whole, by rename. The logs follow it:

1. mood.jsonl and rejected.jsonl are appended to; state.json then names their lengths. What stands behind these
   lengths at a start belongs to a commit that did not happen, and is cut off.
2. state.json is replaced. From here on the alerts of its outbox are certain.
3. alerts.jsonl is appended to. At a start, an unfinished last line is cut off, and what the outbox holds and the log
   lacks is appended. Thus a line that a reader of the log has seen is never taken back.
"""

import fcntl
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kerasllm.errors import ConfigError, DataError

FORMAT_VERSION = 1
LOGS = ("mood.jsonl", "rejected.jsonl")
ALERTS = "alerts.jsonl"


class Journal:
    """The folder of one monitor.

    Args:
      folder: is made if need be.
      settings: that must not change as long as the folder is used.

    Attributes:
      state: of the last commit; None in a new folder.

    Raises:
      ConfigError: another monitor uses the folder, it belongs to other settings, or cannot be written.
      DataError: state.json is damaged.
    """

    def __init__(self, folder: str | Path, settings: dict[str, Any]) -> None:
        self.folder, self._settings = Path(folder), settings
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.folder / "lock", "w")  # noqa: SIM115  held until the process ends
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{folder}: another monitor uses this --workdir. Stop it, or give another one.") from None
        except OSError as error:
            raise ConfigError(f"{folder}: cannot be written ({error.strerror}). Give another --workdir.") from None
        self.state = self._read_state()
        self._recover()

    def commit(self, state: dict[str, Any], alerts: Sequence[dict[str, Any]], **logs: Sequence[dict[str, Any]]) -> None:
        """Makes a state certain, and with it lines of the logs (`mood`, `rejected`) and alerts.

        Raises:
          DataError: the disk is full or not writable; the last commit holds.
        """
        try:
            for name in LOGS:
                _append(self.folder / name, logs.get(Path(name).stem, ()))
            whole = {
                "format_version": FORMAT_VERSION,
                "settings": self._settings,
                "lengths": {name: _size(self.folder / name) for name in LOGS},
                "outbox": list(alerts),
                **state,
            }
            unfinished = self.folder / "state.json.unfinished"
            with open(unfinished, "w", encoding="utf-8") as file:
                file.write(json.dumps(whole, ensure_ascii=False, separators=(",", ":")))
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self.folder / "state.json")
            _sync_folder(self.folder)
            _append(self.folder / ALERTS, alerts)
        except OSError as error:
            raise DataError(
                f"{self.folder}: cannot be written ({error.strerror}). Make room and start again; nothing is lost."
            ) from None

    def close(self) -> None:
        """Lets another monitor use the folder."""
        self._lock.close()

    def _read_state(self) -> dict[str, Any] | None:
        path = self.folder / "state.json"
        if not path.exists():
            return None
        try:
            state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            version, settings = state["format_version"], state["settings"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: damaged ({error}). Restore it, or start with a new --workdir.") from None
        if version != FORMAT_VERSION:
            raise DataError(f"{path}: format {version}, this program reads {FORMAT_VERSION}. Start a new --workdir.")
        if settings != self._settings:
            names = [name for name in self._settings if settings.get(name) != self._settings[name]]
            changes = ", ".join(f"{name}: {settings.get(name)!r} -> {self._settings[name]!r}" for name in names)
            raise ConfigError(f"{self.folder} was begun with other settings ({changes}). Start a new --workdir.")
        return state

    def _recover(self) -> None:
        for name in LOGS:
            length = self.state["lengths"][name] if self.state else 0
            if _size(self.folder / name) > length:
                os.truncate(self.folder / name, length)
        alerts = self.folder / ALERTS
        if not self.state or not alerts.exists():
            _append(alerts, self.state["outbox"] if self.state else ())
            return
        content = alerts.read_bytes()
        if not content.endswith(b"\n"):
            content = content[: content.rfind(b"\n") + 1]
            os.truncate(alerts, len(content))
        known = {json.loads(line)["id"] for line in content.splitlines()}
        _append(alerts, [alert for alert in self.state["outbox"] if alert["id"] not in known])


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; none if there is no such file."""
    if not path.exists():
        return []
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.endswith("\n")]


def _append(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    if not lines:
        return
    with open(path, "ab") as file:
        file.write(b"".join(json.dumps(line, ensure_ascii=False).encode("utf-8") + b"\n" for line in lines))
        file.flush()
        os.fsync(file.fileno())


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
