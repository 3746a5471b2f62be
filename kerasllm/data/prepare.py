"""How does raw text become a corpus? Two streaming passes: a vocabulary from a sample, then tokens into shards."""

import collections
import concurrent.futures
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kerasllm.config import Run
from kerasllm.data import records
from kerasllm.data.corpus import MANIFEST_FILE, SPLITS, SplitName, sha256_of
from kerasllm.data.documents import RawDocument, Source, find_sources, read_documents
from kerasllm.data.sentences import split_sentences
from kerasllm.errors import DataError
from kerasllm.text import (
    ByteTokenizer,
    Tokenizer,
    sentencepiece_from_file,
    train_sentencepiece,
    train_wordpiece,
    wordpiece_from_file,
)

# Bytes of text that a vocabulary is learned from. They stand in memory, for SentencePiece several times.
SAMPLE_BYTES = {"wordpiece": 32 << 20, "sentencepiece": 16 << 20}
BATCH_CHARACTERS = 1 << 18  # tokenized in one call
Progress = Callable[[str, int], object]  # what is done, bytes of input done since the last call


def prepare_corpus(
    inputs: Iterable[str],
    output: str | os.PathLike[str],
    run: Run,
    vocabulary: str | os.PathLike[str] | None = None,
    num_threads: int | None = None,
    progress: Progress = lambda stage, num_bytes: None,
    held_out_inputs: Iterable[str] = (),
) -> dict[str, Any]:
    """Writes a corpus folder: vocabulary, shards of both splits, their indices, manifest.json.

    Memory does not grow with the input. The result does not depend on the number of threads. It appears under its name
    only when it is whole.

    Args:
      inputs: `[BOUNDARY:]PATH` each; one source each.
      output: a folder that does not exist yet, or is empty.
      run: sections tokenizer and data.
      vocabulary: a vocab.txt or .model to use instead of learning one.
      num_threads: that tokenize; None: as many as cores.
      progress: told about the bytes read, stage by stage ("vocabulary", "tokens").
      held_out_inputs: as `inputs`; all of their documents are held out.

    Returns:
      The manifest.

    Raises:
      DataError: an input cannot be read, there are no documents, or the output is taken.
    """
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise DataError(f"{output}: there is something already. Choose another --output, or remove it.")
    sources = find_sources(inputs, run.data.document_boundary)
    tokenizer = _tokenizer(sources, run, vocabulary, progress)
    held_out = list(held_out_inputs)
    first_held_out = len(sources)  # its documents and those of the sources after it
    sources += find_sources(held_out, run.data.document_boundary) if held_out else []
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".unfinished", dir=output.parent))
    except OSError as error:
        raise DataError(f"{output}: cannot be written ({error.strerror}). Choose another --output.") from None
    try:
        unfinished.chmod(0o755)
        manifest = _write(unfinished, sources, first_held_out, tokenizer, run, num_threads, progress)
        os.replace(unfinished, output)
    except OSError as error:
        raise DataError(f"{output}: cannot be written ({error.strerror}). Choose another --output.") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return manifest


def input_bytes(inputs: Iterable[str], run: Run) -> int:
    """Bytes of all input files; what `progress` adds up to in each stage."""
    return _file_bytes(find_sources(inputs, run.data.document_boundary))


def _file_bytes(sources: list[Source]) -> int:
    return sum(path.stat().st_size for source in sources for path in source.files)


def _tokenizer(
    sources: list[Source], run: Run, vocabulary: str | os.PathLike[str] | None, progress: Progress
) -> Tokenizer:
    settings = run.tokenizer
    if settings.kind == "byte":
        if vocabulary is not None:
            raise DataError(f"{vocabulary}: tokenizer.kind=byte needs no vocabulary. Leave --vocabulary out.")
        return ByteTokenizer()
    if vocabulary is not None:
        if settings.kind == "wordpiece":
            return wordpiece_from_file(vocabulary, settings.lowercase)
        return sentencepiece_from_file(vocabulary)
    sample = _sample(sources, run, progress)
    if settings.kind == "wordpiece":
        return train_wordpiece(sample, settings.vocab_size, settings.lowercase)
    return train_sentencepiece(sample, settings.vocab_size)


def _sample(sources: list[Source], run: Run, progress: Progress) -> Iterator[str]:
    """Sentences of training documents; of large inputs a part, drawn by hash from all of it, up to a limit of bytes."""
    limit = SAMPLE_BYTES[run.tokenizer.kind]
    share = min(1.0, limit / max(1, _file_bytes(sources)))
    taken = 0
    found = False
    for document in read_documents(sources, run.data.text_field, lambda count: progress("vocabulary", count)):
        found = True
        # The keys of training documents fill [held_out_share, 1); their fractions at a finer scale are uniform again.
        if _split_of(document, run) == "held_out" or document.split_key * 65536 % 1 >= share or taken > limit:
            continue
        taken += len(document.text.encode())
        yield from split_sentences(document.text)
    if not found:
        raise _no_documents(sources)
    if not taken:
        raise DataError("No training document for the vocabulary. Give more documents or lower data.held_out_share.")


def _split_of(document: RawDocument, run: Run) -> SplitName:
    return "held_out" if document.split_key < run.data.held_out_share else "train"


def _write(
    folder: Path,
    sources: list[Source],
    first_held_out: int,
    tokenizer: Tokenizer,
    run: Run,
    num_threads: int | None,
    progress: Progress,
) -> dict[str, Any]:
    tokenizer.save(folder)
    dtype = records.token_dtype(tokenizer.vocab_size)
    writers = {name: _SplitWriter(folder, name, dtype, run.data.shard_megabytes << 20) for name in SPLITS}
    raw = read_documents(sources, run.data.text_field, lambda count: progress("tokens", count))
    for raw_document, document in _tokenized(raw, tokenizer, num_threads or os.cpu_count() or 1):
        split = "held_out" if raw_document.source >= first_held_out else _split_of(raw_document, run)
        writers[split].write(document, len(raw_document.text.encode()))
    for writer in writers.values():
        writer.close()
    if not any(writer.shards for writer in writers.values()):
        raise _no_documents(sources)
    manifest = {
        "format_version": records.FORMAT_VERSION,
        "vocabulary": {
            "kind": tokenizer.kind,
            "size": tokenizer.vocab_size,
            "fingerprint": tokenizer.fingerprint,
        },
        "token_dtype": dtype.str,
        "sources": [
            {
                "input": source.name,
                "boundary": source.boundary,
                **{name: writers[name].counts_of(number) for name in SPLITS},
            }
            for number, source in enumerate(sources)
        ],
        "splits": {name: {**writers[name].counts_of(None), "shards": writers[name].shards} for name in SPLITS},
        "settings": {"tokenizer": run.tokenizer.model_dump(mode="json"), "data": run.data.model_dump(mode="json")},
    }
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    (folder / MANIFEST_FILE).write_text(text, encoding="utf-8")
    return manifest


def _tokenized(
    documents: Iterable[RawDocument], tokenizer: Tokenizer, num_threads: int
) -> Iterator[tuple[RawDocument, records.Document]]:
    """Tokenizes in threads (the operation runs outside Python's lock), in order, with few batches under way."""
    pending: collections.deque[concurrent.futures.Future[list[tuple[RawDocument, records.Document]]]]
    pending = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        for batch in _batches(documents):
            pending.append(pool.submit(_tokenize, batch, tokenizer))
            if len(pending) > 2 * num_threads:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()


def _batches(documents: Iterable[RawDocument]) -> Iterator[list[RawDocument]]:
    batch, size = list[RawDocument](), 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _tokenize(batch: list[RawDocument], tokenizer: Tokenizer) -> list[tuple[RawDocument, records.Document]]:
    """Sentences and documents without a token are left out."""
    sentences = [split_sentences(document.text) for document in batch]
    ids = tokenizer.tokenize(tf.constant([sentence for parts in sentences for sentence in parts]))
    values, lengths = ids.values.numpy(), np.diff(ids.row_splits.numpy())
    result, first_token, first_sentence = [], 0, 0
    for document, parts in zip(batch, sentences, strict=True):
        own = lengths[first_sentence : first_sentence + len(parts)]
        tokens = values[first_token : first_token + own.sum()]
        first_token, first_sentence = first_token + len(tokens), first_sentence + len(parts)
        if len(tokens):
            stored = records.Document(document.source, document.origin, tokens, own[own > 0].astype(np.int32))
            result.append((document, stored))
    return result


class _SplitWriter:
    """Writes the documents of one split into shards of limited size, and counts.

    Attributes:
      shards: the manifest's entry of each finished shard.
    """

    def __init__(self, folder: Path, name: str, dtype: np.dtype, shard_bytes: int) -> None:
        self._folder, self._name, self._dtype, self._shard_bytes = folder, name, dtype, shard_bytes
        self._open: records.ShardWriter | None = None
        self._counts: dict[int, collections.Counter[str]] = {}
        self.shards: list[dict[str, Any]] = []

    def write(self, document: records.Document, text_bytes: int) -> None:
        if self._open is None:
            path = self._folder / f"{self._name}-{len(self.shards):05d}.tfrecord"
            self._open = records.ShardWriter(path, self._dtype)
        self._open.write(document)
        self._counts.setdefault(document.source, collections.Counter()).update(
            documents=1, sentences=len(document.sentence_lengths), tokens=len(document.token_ids), bytes=text_bytes
        )
        if self._open.num_bytes >= self._shard_bytes:
            self.close()

    def close(self) -> None:
        if self._open is None:
            return
        writer, self._open = self._open, None
        index = records.index_path(writer.path)
        num_documents = writer.close()
        self.shards.append(
            {
                "file": writer.path.name,
                "bytes": writer.path.stat().st_size,
                "sha256": sha256_of(writer.path),
                "index": index.name,
                "index_bytes": index.stat().st_size,
                "index_sha256": sha256_of(index),
                "documents": num_documents,
            }
        )

    def counts_of(self, source: int | None) -> dict[str, int]:
        """Documents, sentences, tokens and bytes of text, of one source or of all."""
        found = self._counts.values() if source is None else [self._counts.get(source, collections.Counter())]
        return {name: sum(count[name] for count in found) for name in ("documents", "sentences", "tokens", "bytes")}


def _no_documents(sources: list[Source]) -> DataError:
    described = ", ".join(f"{source.name} ({source.boundary})" for source in sources)
    return DataError(f"No documents in the input: {described}. Check data.document_boundary and the files.")
