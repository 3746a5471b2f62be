"""How does a program write a file? Whole or not at all, and what went wrong in one clear line."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from kerasllm.errors import DataError


@contextlib.contextmanager
def writing_to(output: Path) -> Iterator[None]:
    """Makes the folder of --output; inside, a failure of the disk becomes an error of ours.

    Raises:
      DataError: something cannot be written.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise DataError(f"{output}: cannot be written ({error.strerror}). Give another --output.") from None


@contextlib.contextmanager
def whole_file(output: Path) -> Iterator[TextIO]:
    """An open text file (UTF-8) that appears as `output` when the block has ended, and not at all if it failed.

    Raises:
      DataError: it cannot be written.
    """
    unfinished = output.with_name(f".{output.name}.unfinished")
    with writing_to(output):
        try:
            with open(unfinished, "w", encoding="utf-8", newline="\n") as file:
                yield file
            unfinished.replace(output)
        finally:
            unfinished.unlink(missing_ok=True)
