"""What is one record of a shard? The only place that knows the tf.train.Example of a document, its index and its bytes.

A shard is a TFRecord file; a record is one document. Beside `NAME.tfrecord` stands `NAME.index.npz`, which tells where
in the file the token bytes of each document lie, so that any token is read without parsing a record.
"""

import dataclasses
import os
from pathlib import Path
from typing import Self

import numpy as np
import tensorflow as tf

FORMAT_VERSION = 1  # of records, index and manifest
_HEADER_BYTES, _FOOTER_BYTES = 12, 4  # TFRecord: length uint64 and its checksum; checksum of the data


@dataclasses.dataclass(frozen=True)
class Document:
    """One document as it is stored.

    Attributes:
      source: number of the --input it came from.
      origin: file and title or ordinal, for people.
      token_ids: [T] integer, without special tokens.
      sentence_lengths: [S] integer, tokens of each sentence; they add up to T.
    """

    source: int
    origin: str
    token_ids: np.ndarray
    sentence_lengths: np.ndarray


@dataclasses.dataclass(frozen=True)
class Index:
    """Where the documents of one shard lie. D documents, S sentences of all of them.

    Attributes:
      payload_offsets: [D] int64, byte of the file at which the token ids of a document begin.
      sentence_counts: [D] int32.
      sentence_lengths: [S] int32, tokens.
      source_ids: [D] int32.
    """

    payload_offsets: np.ndarray
    sentence_counts: np.ndarray
    sentence_lengths: np.ndarray
    source_ids: np.ndarray

    def save(self, path: Path) -> None:
        """Writes an uncompressed .npz."""
        np.savez(path, **dataclasses.asdict(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{field.name: arrays[field.name] for field in dataclasses.fields(cls)})


def token_dtype(vocab_size: int) -> np.dtype:
    """The narrowest stored integer: little-endian uint16 up to 65,536 tokens, else int32."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<i4")


def serialize(document: Document, dtype: np.dtype) -> tuple[bytes, int]:
    """A tf.train.Example, and the offset in it at which the token bytes begin.

    The token ids are made the last bytes of the message: joined messages are one message in protocol buffers.
    """
    payload = document.token_ids.astype(dtype).tobytes()
    head = tf.train.Example(
        features=tf.train.Features(
            feature={
                "format_version": _integer(FORMAT_VERSION),
                "source": _integer(document.source),
                "origin": _bytes(document.origin.encode()),
                "token_dtype": _bytes(dtype.str.encode()),
                "sentence_lengths": _bytes(document.sentence_lengths.astype("<i4").tobytes()),
            }
        )
    )
    tail = tf.train.Example(features=tf.train.Features(feature={"token_ids": _bytes(payload)}))
    message = head.SerializeToString() + tail.SerializeToString()
    assert message.endswith(payload), "a protocol buffer library wrote the bytes of a feature before its name"
    return message, len(message) - len(payload)


def parse(record: tf.Tensor, dtype: np.dtype) -> dict[str, tf.Tensor]:
    """Reads a record in-graph: source int64, origin string, token_ids [T] int32, sentence_lengths [S] int32."""
    features = tf.io.parse_single_example(
        record,
        {
            "source": tf.io.FixedLenFeature([], tf.int64),
            "origin": tf.io.FixedLenFeature([], tf.string),
            "token_ids": tf.io.FixedLenFeature([], tf.string),
            "sentence_lengths": tf.io.FixedLenFeature([], tf.string),
        },
    )
    token_ids = tf.io.decode_raw(features["token_ids"], tf.as_dtype(dtype.newbyteorder("=")), little_endian=True)
    lengths = tf.io.decode_raw(features["sentence_lengths"], tf.int32, little_endian=True)
    return {**features, "token_ids": tf.cast(token_ids, tf.int32), "sentence_lengths": lengths}


class ShardWriter:
    """Writes one shard and, when closed, its index; without `close` the file is not whole.

    Attributes:
      num_bytes: length of the file so far.
    """

    def __init__(self, path: Path, dtype: np.dtype) -> None:
        self.path, self.num_bytes = path, 0
        self._dtype = dtype
        self._offsets: list[int] = []
        self._sources: list[int] = []
        self._lengths: list[np.ndarray] = []
        self._writer = tf.io.TFRecordWriter(os.fspath(path))

    def write(self, document: Document) -> None:
        """Appends a document of at least one token."""
        message, payload = serialize(document, self._dtype)
        self._writer.write(message)
        self._offsets.append(self.num_bytes + _HEADER_BYTES + payload)
        self._sources.append(document.source)
        self._lengths.append(document.sentence_lengths.astype(np.int32))
        self.num_bytes += _HEADER_BYTES + len(message) + _FOOTER_BYTES

    @property
    def index(self) -> Index:
        """The index of what has been written."""
        return Index(
            payload_offsets=np.array(self._offsets, np.int64),
            sentence_counts=np.array([len(lengths) for lengths in self._lengths], np.int32),
            sentence_lengths=np.concatenate(self._lengths or [np.zeros(0, np.int32)]),
            source_ids=np.array(self._sources, np.int32),
        )

    def close(self) -> int:
        """Finishes the file and writes its index; returns the number of documents."""
        self._writer.close()
        self.index.save(index_path(self.path))
        return len(self._offsets)


def index_path(shard: Path) -> Path:
    """`train-00000.tfrecord` -> `train-00000.index.npz`."""
    return shard.with_suffix(".index.npz")


def _bytes(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _integer(value: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
