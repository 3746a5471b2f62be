"""Which versions lie under a base path, and has one stopped changing? What the file system tells of models."""

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

_LARGEST = 2**63 - 1  # of the protocol's numbers


def numbered_folders(base_path: Path) -> dict[int, Path]:
    """The versions' folders by number, of 64 bits; of two spellings of a number the later in sort order.

    Raises:
      OSError: there is no such folder, or it may not be read.
    """
    names = sorted(path.name for path in base_path.iterdir() if re.fullmatch(r"[0-9]+", path.name))
    return {int(name): base_path / name for name in names if int(name) <= _LARGEST}


@dataclass(frozen=True)
class Contents:
    """Names, sizes and times of everything in a folder; two that are equal are taken for the same model.

    `changed_at` is the newest time of change in seconds since the epoch. It counts a file's arrival on this machine,
    which copying with preserved times does not hide, and not the folder's renaming, by which exports are published.
    """

    entries: tuple[tuple[str, int, int, int], ...]
    changed_at: float

    def is_at_rest(self, seconds: float, seen_for_s: float) -> bool:
        """Whether nothing has changed for so long, by the files' times or, where clocks differ, by our own look."""
        return time.time() - self.changed_at >= seconds or seen_for_s >= seconds


def contents(folder: Path) -> Contents | None:
    """What is in a folder now; None where it cannot be read, for example because it is being removed."""
    try:
        stats = [(path, _stat(path)) for path in sorted(folder.rglob("*"))] or [(folder, folder.stat())]
    except OSError:
        return None
    entries = tuple((str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for path, stat in stats)
    return Contents(entries, max(stat.st_ctime for _, stat in stats))


def _stat(path: Path) -> os.stat_result:
    """Of a file; of the link itself where what it points to is not there (yet)."""
    try:
        return path.stat()
    except FileNotFoundError:
        return path.lstat()
