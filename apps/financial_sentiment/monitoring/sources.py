"""Where do lines come from? Files that are read from where the last run stopped; standard input is spooled to one."""

import hashlib
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from apps.financial_sentiment.monitoring.events import MAX_LINE_BYTES
from kerasllm.errors import DataError

ENDINGS = (".jsonl", ".tsv")
HEAD_BYTES = 1024  # by which a file is known again
SEGMENT_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file, without its end."""

    file: str
    number: int
    content: bytes
    columns: tuple[str, ...] | None  # of a .tsv file


class Files:
    """Lines of one file, or of a folder's files in the order of their names.

    Args:
      path: a .jsonl or .tsv file, or a folder of such.
      positions: of an earlier run, by file name; kept up to date as lines are read.
      grows: a last line without its end is still being written, and is left for later.

    Raises:
      DataError: there is no such file or folder, or a file's ending is unknown.
    """

    def __init__(self, path: str | Path, positions: dict[str, Any], grows: bool) -> None:
        self.path, self.positions, self.grows = Path(path), positions, grows
        if not self.path.exists():
            raise DataError(f"{path}: no such file or folder. Give --input FILE, FOLDER, or - for standard input.")
        if self.path.is_file() and self.path.suffix not in ENDINGS:
            raise DataError(f"{path}: unknown ending {self.path.suffix!r}. Give a .jsonl or .tsv file.")

    def read(self, most: int) -> list[Line]:
        """Up to `most` further lines; none if there are none now."""
        lines: list[Line] = []
        for file in self._files():
            lines += self._read_file(file, most - len(lines))
            if len(lines) >= most:
                break
        return lines

    def _files(self) -> list[Path]:
        if not self.path.is_dir():
            return [self.path]
        return sorted(file for file in self.path.iterdir() if file.suffix in ENDINGS and file.is_file())

    def _read_file(self, path: Path, most: int) -> list[Line]:
        try:
            with open(path, "rb") as file:
                return list(self._further_lines(path, file, most))
        except FileNotFoundError:  # rotated away; it may come again
            return []
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}).") from None

    def _further_lines(self, path: Path, file: IO[bytes], most: int) -> Iterator[Line]:
        position = self._position(path, file)
        columns = None
        if path.suffix == ".tsv":
            header = file.readline()
            if not header.endswith(b"\n"):
                return
            columns = tuple(header.decode("utf-8-sig", "replace").rstrip("\r\n").split("\t"))
            if position["offset"] == 0:
                position.update(offset=file.tell(), line=1)
        file.seek(position["offset"])
        for _ in range(most):
            content = _read_line(file)
            if not content or (self.grows and not content.endswith(b"\n")):
                break
            position.update(offset=file.tell(), line=position["line"] + 1)
            yield Line(path.name, position["line"], content.rstrip(b"\r\n"), columns)
        if position["head_bytes"] < min(HEAD_BYTES, position["offset"]):
            position["head_bytes"] = min(HEAD_BYTES, position["offset"])
            position["head"] = _head(file, position["head_bytes"])

    def _position(self, path: Path, file: IO[bytes]) -> dict[str, Any]:
        """Where to go on; at the beginning if the file under this name is another one than before."""
        new = {"offset": 0, "line": 0, "head_bytes": 0, "head": _head(file, 0)}
        position: dict[str, Any] = self.positions.setdefault(path.name, new)
        is_same = _head(file, position["head_bytes"]) == position["head"]
        if not is_same or path.stat().st_size < position["offset"]:
            position.update(new)
        file.seek(0)
        return position


class Spool:
    """Standard input, written to files as it comes, since a pipe gives each byte only once.

    What is in the folder is read again after a restart; files that have been handled are removed.

    Args:
      folder: of the spool's files.
      positions: as for `Files`.
      stream: of lines.
    """

    def __init__(self, folder: Path, positions: dict[str, Any], stream: IO[bytes] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._stream = folder, stream or sys.stdin.buffer
        old = sorted(folder.glob("*.jsonl"))
        if old and old[-1].read_bytes()[-1:] != b"\n":  # killed while writing: that line's end is lost
            with open(old[-1], "ab") as file:
                file.write(b"\n")
        self._number = 1 + max((int(file.stem) for file in old), default=0)
        self._number = max(self._number, 1 + max((int(Path(name).stem) for name in positions), default=0))
        self._files = Files(folder, positions, grows=True)
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        """Whether everything that will ever come has been written to files."""
        return not self._thread.is_alive()

    def read(self, most: int) -> list[Line]:
        """Up to `most` further lines.

        Raises:
          DataError: the spool cannot be written.
        """
        if self._error is not None:
            raise DataError(f"{self._folder}: cannot be written ({self._error.strerror}). Make room and start again.")
        return self._files.read(most)

    def forget(self) -> None:
        """Removes files that have been handled whole; to be called when the positions are safe."""
        for file in sorted(self._folder.glob("*.jsonl")):
            position = self._files.positions.get(file.name)
            is_written = self.has_ended or int(file.stem) < self._number
            if is_written and position and position["offset"] >= file.stat().st_size:
                file.unlink()

    def _write(self) -> None:
        try:
            while self._write_segment():
                self._number += 1
        except OSError as error:
            self._error = error

    def _write_segment(self) -> bool:
        """Writes one file; False at the end of the stream."""
        descriptor_path = self._folder / f"{self._number:08}.jsonl"
        with open(descriptor_path, "wb", buffering=0) as file:
            descriptor_path.chmod(0o600)
            while file.tell() < SEGMENT_BYTES:
                line = self._stream.readline()
                if not line:
                    return False
                file.write(line if line.endswith(b"\n") else line + b"\n")
        return True


def open_source(name: str, workdir: str | Path, positions: dict[str, Any], follow: bool) -> Files | Spool:
    """The source that --input names; "-" is standard input, spooled to a folder of the workdir.

    Raises:
      DataError: as `Files` does.
    """
    return Spool(Path(workdir) / "spool", positions) if name == "-" else Files(name, positions, follow)


def wait_for_lines(source: Files | Spool, most: int, gather_s: float) -> list[Line]:
    """Lines of the source; a few are given a moment to become more, so that batches are worth a call."""
    lines = source.read(most)
    if 0 < len(lines) < most:
        time.sleep(gather_s)
        lines += source.read(most - len(lines))
    return lines


def _read_line(file: IO[bytes]) -> bytes:
    """A line; of one that is too long, only as much as shows it."""
    content = file.readline(MAX_LINE_BYTES + 2)
    rest = content
    while rest and not rest.endswith(b"\n"):
        rest = file.readline(MAX_LINE_BYTES)
        if rest.endswith(b"\n"):
            return content + b"\n"
    return content


def _head(file: IO[bytes], size: int) -> str:
    file.seek(0)
    return hashlib.sha256(file.read(size)).hexdigest()
