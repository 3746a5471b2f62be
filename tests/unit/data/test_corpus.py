"""Is a corpus read as it was written, and is a damaged one refused?"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from kerasllm import data
from kerasllm.data import records
from kerasllm.errors import DataError


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "corpus"))


@pytest.mark.parametrize("dtype", ["<u2", "<i4"])
def test_the_memory_map_and_the_parsed_record_hold_the_same_document(dtype: str, tmp_path):
    rng = np.random.default_rng(0)
    documents = [
        records.Document(i % 2, f"file: {i}", rng.integers(0, 9, sum(lengths)), np.array(lengths))
        for i, lengths in enumerate([[1], [3, 2], [0x100, 7, 1], [1]])  # one token of one byte pattern occurs anywhere
    ]
    path = tmp_path / "x.tfrecord"
    writer = records.ShardWriter(path, np.dtype(dtype))
    for document in documents:
        writer.write(document)
    assert writer.num_bytes > 0
    writer.close()
    assert path.stat().st_size == writer.num_bytes
    index, content = records.Index.load(records.index_path(path)), path.read_bytes()
    assert index.sentence_lengths.tolist() == [1, 3, 2, 256, 7, 1, 1]
    assert index.source_ids.tolist() == [0, 1, 0, 1]
    parsed = tf.data.TFRecordDataset(str(path)).map(lambda record: records.parse(record, np.dtype(dtype)))
    for number, (document, in_graph) in enumerate(zip(documents, parsed.as_numpy_iterator(), strict=True)):
        start, count = index.payload_offsets[number], len(document.token_ids)
        mapped = np.frombuffer(content, dtype, count, start)
        np.testing.assert_array_equal(mapped, document.token_ids)
        np.testing.assert_array_equal(in_graph["token_ids"], document.token_ids)
        np.testing.assert_array_equal(in_graph["sentence_lengths"], document.sentence_lengths)
        assert (in_graph["source"], in_graph["origin"].decode()) == (document.source, document.origin)


def test_small_vocabularies_are_stored_in_two_bytes_a_token():
    assert records.token_dtype(65536).itemsize == 2
    assert records.token_dtype(65537).itemsize == 4


def test_a_split_gives_any_stretch_of_a_document(folder: Path, train: data.Split):
    shard = folder / "train-00000.tfrecord"
    parsed = next(iter(tf.data.TFRecordDataset(str(shard)).map(lambda r: records.parse(r, np.dtype("<u2")))))
    whole = parsed["token_ids"].numpy()
    np.testing.assert_array_equal(train.tokens(0), whole)
    np.testing.assert_array_equal(train.tokens(0, 2, 5), whole[2:5])
    np.testing.assert_array_equal(train.read(1, 3), whole[1:4])
    second = int(train.document_starts[1])
    np.testing.assert_array_equal(train.read(second, 2), train.tokens(1, 0, 2))


def test_a_split_counts_its_tokens(train: data.Split):
    counts = train.token_counts()
    assert counts.shape == (train.tokenizer.vocab_size,)
    assert counts.sum() == train.num_tokens
    token = int(train.tokens(0)[0])
    assert counts[token] == sum((train.tokens(document) == token).sum() for document in range(train.num_documents))


def test_the_manifest_counts_what_is_there(corpus: data.Corpus):
    manifest = corpus.manifest
    total = 0
    for name in ("train", "held_out"):
        split, counts = corpus.split(name), manifest["splits"][name]
        assert counts["documents"] == split.num_documents
        assert counts["sentences"] == split.num_sentences
        assert counts["tokens"] == split.num_tokens
        assert counts["documents"] == sum(source[name]["documents"] for source in manifest["sources"])
        total += counts["documents"]
    assert total == 301
    assert manifest["splits"]["held_out"]["documents"] == pytest.approx(0.2 * 301, abs=25)


def test_no_manifest_is_no_corpus(copy: Path):
    (copy / "manifest.json").unlink()
    with pytest.raises(DataError, match=r"no manifest\.json, so this is no prepared corpus"):
        data.open_corpus(copy)


def test_another_format_version_is_refused(copy: Path):
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "format_version": 99}))
    with pytest.raises(DataError, match="format version 99, this program reads 1"):
        data.open_corpus(copy)


def test_a_truncated_shard_is_refused_with_both_sizes(copy: Path):
    shard = copy / "train-00000.tfrecord"
    size = shard.stat().st_size
    with shard.open("r+b") as file:
        file.truncate(size - 5)
    with pytest.raises(DataError, match=rf"train-00000\.tfrecord: {size - 5} bytes, the manifest says {size}"):
        data.open_corpus(copy)


def test_a_missing_index_is_refused(copy: Path):
    (copy / "train-00000.index.npz").unlink()
    with pytest.raises(DataError, match=r"train-00000\.index\.npz: missing"):
        data.open_corpus(copy)


def test_another_vocabulary_is_refused(copy: Path):
    with (copy / "vocab.txt").open("a") as file:
        file.write("extra\n")
    with pytest.raises(DataError, match="the vocabulary .* is not the one that made the shards"):
        data.open_corpus(copy)


def test_a_changed_byte_is_found_by_verification(copy: Path):
    shard = copy / "train-00000.tfrecord"
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    data.open_corpus(copy)  # the sizes are right
    with pytest.raises(DataError, match="sha256"):
        data.open_corpus(copy, verify=True)


def test_a_split_without_documents_is_refused(copy: Path):
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["splits"]["held_out"]["shards"] = []
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"no held_out documents.*data\.held_out_share \(now 0\.2\)"):
        data.open_corpus(copy).split("held_out")
