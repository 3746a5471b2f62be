"""What can every tokenizer do? Text to ids and back in the graph, and into a folder."""

# N texts, T tokens of a row, V vocabulary

import abc
import dataclasses
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import yaml

FORMAT_VERSION = 1  # of tokenizer.yaml
SETTINGS_FILE = "tokenizer.yaml"


@dataclasses.dataclass(frozen=True)
class SpecialTokens:
    """Ids of the tokens that no text can produce; `mask` is -1 where a vocabulary has none."""

    pad: int
    unk: int
    cls: int
    sep: int
    mask: int = -1

    @property
    def bos(self) -> int:
        """Begins a document; the same token as `cls`."""
        return self.cls

    @property
    def eos(self) -> int:
        """Ends a document; the same token as `sep`."""
        return self.sep

    @property
    def ids(self) -> tuple[int, ...]:
        """All of them that exist."""
        return tuple(i for i in (self.pad, self.unk, self.cls, self.sep, self.mask) if i >= 0)


class Tokenizer(abc.ABC):
    """A vocabulary and the graph operations that apply it.

    Attributes:
      words: the V tokens as written in the vocabulary.
      special: ids of the special tokens.
      starts_word: [V] bool; False for pieces that continue a word.
      assets: objects that a tf.Module has to track so that an export works.
    """

    kind: str
    words: list[str]
    special: SpecialTokens
    starts_word: np.ndarray
    assets: list[Any]
    vocabulary: bytes = b""  # the content of the vocabulary file
    lowercase: bool = False
    _file_name: str = ""  # of the vocabulary; "": it needs no file

    @abc.abstractmethod
    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Texts [N] string to ids [N, (tokens)] int32, without special tokens."""

    @abc.abstractmethod
    def detokenize(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """Ids [N, (tokens)] or [N, T] to texts [N] string."""

    @property
    def vocab_size(self) -> int:
        """V, special tokens included."""
        return len(self.words)

    @property
    def fingerprint(self) -> str:
        """The sha256 of vocabulary and settings: equal fingerprints give equal ids."""
        return hashlib.sha256(self._settings().encode() + b"\0" + self.vocabulary).hexdigest()

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the vocabulary and its settings; `load_tokenizer` reads them back."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if self._file_name:
            (folder / self._file_name).write_bytes(self.vocabulary)
        (folder / SETTINGS_FILE).write_text(self._settings(), encoding="utf-8")

    def _settings(self) -> str:
        return yaml.safe_dump({"format_version": FORMAT_VERSION, "kind": self.kind, "lowercase": self.lowercase})
