"""What is a prepared corpus, and how is any of its tokens read? The manifest, its checks, and memory-mapped shards."""

import bisect
import functools
import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kerasllm.data import records
from kerasllm.errors import DataError
from kerasllm.text import Tokenizer, load_tokenizer

MANIFEST_FILE = "manifest.json"
SplitName = Literal["train", "held_out"]
SPLITS: tuple[SplitName, ...] = ("train", "held_out")


class Split:
    """The documents of one part of a corpus, as one long line of tokens. D documents, S sentences.

    Attributes:
      name: train or held_out.
      tokenizer: the corpus's.
      sentence_starts: [S + 1] int64, token address at which each sentence begins; the last is the number of tokens.
      document_sentences: [D + 1] int64, first sentence of each document; the last is S.
      source_ids: [D] int32, rising: the documents of a source stand together.
    """

    def __init__(
        self, name: SplitName, tokenizer: Tokenizer, dtype: np.dtype, shards: list[Path], indices: list[records.Index]
    ) -> None:
        self.name, self.tokenizer, self._dtype, self._shards = name, tokenizer, dtype, shards
        self.sentence_starts = _cumulative([index.sentence_lengths for index in indices])
        self.document_sentences = _cumulative([index.sentence_counts for index in indices])
        self.source_ids = np.concatenate([np.zeros(0, np.int32), *(index.source_ids for index in indices)])
        self.document_starts = self.sentence_starts[self.document_sentences]
        self._payloads = np.concatenate([np.zeros(0, np.int64), *(index.payload_offsets for index in indices)])
        self._first_documents = np.cumsum([0, *(len(index.source_ids) for index in indices)]).tolist()

    @property
    def num_documents(self) -> int:
        """D."""
        return len(self.source_ids)

    @property
    def num_sentences(self) -> int:
        """S."""
        return len(self.sentence_starts) - 1

    @property
    def num_tokens(self) -> int:
        """Tokens, without special ones."""
        return int(self.sentence_starts[-1])

    def tokens(self, document: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Token ids [stop - start] int32 of a document, counted from its beginning."""
        first, last = self.document_starts[document : document + 2]
        stop = last - first if stop is None else stop
        return self._read(document, int(start), int(stop))

    def read(self, address: int, length: int) -> np.ndarray:
        """Token ids [length] int32 from a token address on; they must lie in one document."""
        document = int(np.searchsorted(self.document_starts, address, side="right")) - 1
        start = address - int(self.document_starts[document])
        return self._read(document, start, start + length)

    def token_counts(self) -> np.ndarray:
        """How often each token of the vocabulary stands in the documents: [V] int64."""
        counts = np.zeros(self.tokenizer.vocab_size, np.int64)
        for document in range(self.num_documents):
            tokens, found = np.unique(self.tokens(document), return_counts=True)
            counts[tokens] += found
        return counts

    def _read(self, document: int, start: int, stop: int) -> np.ndarray:
        assert 0 <= start <= stop <= self.document_starts[document + 1] - self.document_starts[document]
        shard = bisect.bisect_right(self._first_documents, document) - 1
        width = self._dtype.itemsize
        offset = int(self._payloads[document])
        content = self._mapped(shard)[offset + start * width : offset + stop * width]
        return content.view(self._dtype).astype(np.int32)

    @functools.cache  # noqa: B019  a split lives as long as the process
    def _mapped(self, shard: int) -> np.ndarray:
        return np.memmap(self._shards[shard], np.uint8, mode="r").view(np.ndarray)


class Corpus:
    """A folder that `apps.pretrain.prepare` wrote: vocabulary, shards, manifest. Made by `open_corpus`."""

    def __init__(self, folder: Path, manifest: dict[str, Any], tokenizer: Tokenizer) -> None:
        self.folder, self.manifest, self.tokenizer = folder, manifest, tokenizer

    @functools.cache  # noqa: B019  a corpus lives as long as the process
    def split(self, name: SplitName) -> Split:
        """The documents for training or those held out.

        Raises:
          DataError: the part has no documents.
        """
        shards = self.manifest["splits"][name]["shards"]
        if not shards:
            raise DataError(
                f"{self.folder}: no {name} documents. Prepare more documents, or change data.held_out_share "
                f"(now {self.manifest['settings']['data']['held_out_share']})."
            )
        paths = [self.folder / shard["file"] for shard in shards]
        indices = [records.Index.load(records.index_path(path)) for path in paths]
        return Split(name, self.tokenizer, np.dtype(self.manifest["token_dtype"]), paths, indices)


def open_corpus(folder: str | os.PathLike[str], verify: bool = False) -> Corpus:
    """Opens a prepared corpus after checking that it is whole.

    Args:
      folder: the --output of `apps.pretrain.prepare`.
      verify: also compare the sha256 of each shard and index, which reads all of them.

    Raises:
      DataError: no manifest, another format version, another vocabulary, a file that is missing, cut or changed.
    """
    folder = Path(folder)
    manifest = _read_manifest(folder / MANIFEST_FILE)
    tokenizer = load_tokenizer(folder)
    if tokenizer.fingerprint != manifest["vocabulary"]["fingerprint"]:
        raise DataError(
            f"{folder}: the vocabulary (fingerprint {tokenizer.fingerprint[:12]}) is not the one that made the shards "
            f"({manifest['vocabulary']['fingerprint'][:12]}). Put the right one back or prepare the corpus again."
        )
    for part in manifest["splits"].values():
        for shard in part["shards"]:
            _check_file(folder / shard["file"], shard["bytes"], shard["sha256"] if verify else None)
            _check_file(folder / shard["index"], shard["index_bytes"], shard["index_sha256"] if verify else None)
    return Corpus(folder, manifest, tokenizer)


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["format_version"]
    except OSError:
        raise DataError(
            f"{path.parent}: no {path.name}, so this is no prepared corpus. Run apps.pretrain.prepare."
        ) from None
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path}: not a manifest of a corpus. Run apps.pretrain.prepare again.") from None
    if version != records.FORMAT_VERSION:
        raise DataError(
            f"{path}: format version {version}, this program reads {records.FORMAT_VERSION}. Prepare the corpus again."
        )
    return manifest


def _check_file(path: Path, num_bytes: int, sha256: str | None) -> None:
    found = path.stat().st_size if path.is_file() else None
    if found is None:
        raise DataError(f"{path}: missing, though the manifest lists it. Copy it or prepare the corpus again.")
    if found != num_bytes:
        raise DataError(
            f"{path}: {found} bytes, the manifest says {num_bytes}: it was cut or changed. "
            "Copy it again or prepare the corpus again."
        )
    if sha256 and sha256_of(path) != sha256:
        raise DataError(f"{path}: its sha256 is not the manifest's: the content changed. Prepare the corpus again.")


def _cumulative(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(parts), dtype=np.int64)])
