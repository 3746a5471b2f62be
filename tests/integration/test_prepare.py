"""Does preparation make a whole corpus or nothing, by the library and by its program?"""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from kerasllm import config, data
from kerasllm.data import prepare
from kerasllm.errors import DataError

ENGLISH = "The market rose today. Profits of the company grew. Mr. Smith sold his shares.\nHe was glad."
CHINESE = "今天股市上涨。公司利润增长！他卖出了股票。"


def run_of(kind: str = "wordpiece", vocab_size: int = 300, held_out_share: float = 0.2, **settings) -> config.Run:
    return config.make_run(
        {
            "tokenizer": {"kind": kind, "vocab_size": vocab_size},
            "data": {"held_out_share": held_out_share, **settings},
        }
    )


@pytest.fixture
def inputs(tmp_path: Path) -> list[str]:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "en.txt").write_text("\n".join(f"<DOC> English {i}\n{ENGLISH} Number {i}." for i in range(60)))
    (raw / "zh.txt").write_text("\n\n".join(f"{CHINESE}第{i}天。" for i in range(60)), encoding="utf-8")
    lines = [json.dumps({"text": f"{ENGLISH} {CHINESE} {i}"}) for i in range(30)]
    (raw / "mixed.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    return [str(raw / "en.txt"), f"blank_line:{raw}/zh.txt", str(raw / "*.jsonl.gz")]


@pytest.mark.parametrize("kind", ["wordpiece", "sentencepiece", "byte"])
def test_files_of_three_kinds_become_one_corpus(kind: str, inputs: list[str], tmp_path: Path):
    manifest = data.prepare_corpus(inputs, tmp_path / "corpus", run_of(kind, 340))
    corpus = data.open_corpus(tmp_path / "corpus", verify=True)
    assert corpus.manifest == json.loads(json.dumps(manifest))
    assert [source["boundary"] for source in manifest["sources"]] == ["doc_marker", "blank_line", "doc_marker"]
    documents = [source["train"]["documents"] + source["held_out"]["documents"] for source in manifest["sources"]]
    assert documents == [60, 60, 30]
    split = corpus.split("train")
    # "The market rose today." "Profits ... grew." "Mr. Smith sold his shares." "He was glad." "Number i."
    assert np.diff(split.document_sentences)[0] == 5
    assert set(split.source_ids.tolist()) == {0, 1, 2}
    assert (np.diff(split.source_ids) >= 0).all()


def test_sentencepiece_keeps_every_character_of_a_document(inputs: list[str], tmp_path: Path):
    data.prepare_corpus(inputs[:1], tmp_path / "corpus", run_of("sentencepiece", 340, held_out_share=0.0))
    split = data.open_corpus(tmp_path / "corpus").split("train")
    texts = split.tokenizer.detokenize(tf.RaggedTensor.from_tensor(tf.constant([split.tokens(7)]))).numpy()
    assert texts[0].decode() == f"{ENGLISH} Number 7."


def folder_content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".json"}


def test_the_result_does_not_depend_on_threads(inputs: list[str], tmp_path: Path, monkeypatch):
    monkeypatch.setattr(prepare, "BATCH_CHARACTERS", 300)
    for threads in (1, 4):
        data.prepare_corpus(inputs, tmp_path / f"corpus{threads}", run_of(), num_threads=threads)
    assert folder_content(tmp_path / "corpus1") == folder_content(tmp_path / "corpus4")


def test_a_document_is_held_out_by_its_text_wherever_it_stands(inputs: list[str], tmp_path: Path):
    def held_out(order: list[str], name: str) -> set[bytes]:
        data.prepare_corpus(order, tmp_path / name, run_of(), vocabulary=tmp_path / "vocab.txt")
        split = data.open_corpus(tmp_path / name).split("held_out")
        return {split.tokens(document).tobytes() for document in range(split.num_documents)}

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"0123456789", *(f"##{i}" for i in range(10))]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    first = held_out(inputs, "a")
    assert first
    assert held_out(inputs[::-1], "b") == first


def test_given_documents_are_held_out_and_a_byte_vocabulary_loses_none_of_them(inputs: list[str], tmp_path: Path):
    run = run_of("byte", held_out_share=0.0)
    manifest = data.prepare_corpus(inputs[:1], tmp_path / "corpus", run, held_out_inputs=inputs[1:2])
    assert manifest["splits"]["train"]["documents"] == manifest["splits"]["held_out"]["documents"] == 60
    held_out = data.open_corpus(tmp_path / "corpus").split("held_out")
    assert held_out.tokenizer.detokenize(held_out.tokens(7)[None]).numpy()[0].decode() == f"{CHINESE}第7天。"
    with pytest.raises(DataError, match="needs no vocabulary"):
        data.prepare_corpus(inputs, tmp_path / "other", run, vocabulary=tmp_path / "vocab.txt")


def test_large_output_is_cut_into_shards_that_read_as_one(inputs: list[str], tmp_path: Path):
    whole = data.prepare_corpus(inputs, tmp_path / "whole", run_of())
    run = run_of()
    object.__setattr__(run.data, "shard_megabytes", 0)  # every document a shard: the schema starts at 1 MB
    manifest = data.prepare_corpus(inputs, tmp_path / "cut", run)
    shards = manifest["splits"]["train"]["shards"]
    assert len(shards) == whole["splits"]["train"]["documents"] > 50
    one, many = (data.open_corpus(tmp_path / name).split("train") for name in ("whole", "cut"))
    for document in range(one.num_documents):
        np.testing.assert_array_equal(one.tokens(document), many.tokens(document))


def test_a_given_vocabulary_is_used(inputs: list[str], tmp_path: Path):
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "market"]))
    data.prepare_corpus(inputs, tmp_path / "corpus", run_of(), vocabulary=tmp_path / "vocab.txt")
    assert data.open_corpus(tmp_path / "corpus").tokenizer.words[-1] == "market"


def test_a_large_input_is_sampled_for_the_vocabulary(inputs: list[str], tmp_path: Path, monkeypatch):
    monkeypatch.setitem(prepare.SAMPLE_BYTES, "wordpiece", 2000)
    everything = list(prepare._sample(prepare.find_sources(inputs, "doc_marker"), run_of(), lambda stage, count: None))
    assert 0 < sum(len(sentence.encode()) for sentence in everything) <= 2000 + 200  # the last document counts whole


def test_an_error_in_the_middle_leaves_nothing_behind(inputs: list[str], tmp_path: Path):
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "market"]))
    bad = tmp_path / "raw" / "bad.txt"
    bad.write_bytes(b"good\xff")
    target = tmp_path / "out" / "corpus"
    with pytest.raises(DataError, match=r"bad\.txt: not UTF-8 at byte 4"):
        data.prepare_corpus([*inputs, str(bad)], target, run_of(), vocabulary=tmp_path / "vocab.txt")
    assert list(target.parent.iterdir()) == []


def test_an_output_that_is_taken_is_refused_and_an_empty_folder_is_filled(inputs: list[str], tmp_path: Path):
    target = tmp_path / "corpus"
    target.mkdir()
    data.prepare_corpus(inputs, target, run_of())
    with pytest.raises(DataError, match="there is something already. Choose another --output"):
        data.prepare_corpus(inputs, target, run_of())


def test_an_output_that_cannot_be_written_is_refused(inputs: list[str], tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError, match="cannot be written"):
        data.prepare_corpus(inputs, tmp_path / "file" / "corpus", run_of())


def test_input_without_documents_is_refused(tmp_path: Path):
    (tmp_path / "a.txt").write_text("\n \n")
    with pytest.raises(DataError, match=r"No documents in the input: .*a\.txt \(doc_marker\)"):
        data.prepare_corpus([str(tmp_path / "a.txt")], tmp_path / "corpus", run_of())
    assert not (tmp_path / "corpus").exists()


def test_text_without_training_documents_is_refused(tmp_path: Path):
    (tmp_path / "a.txt").write_text("Only this.")
    with pytest.raises(DataError, match="No training document"):
        data.prepare_corpus([str(tmp_path / "a.txt")], tmp_path / "corpus", run_of(held_out_share=0.999999))


def program(*arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, "-m", "apps.pretrain.prepare", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_the_program_explains_itself_without_tensorflow():
    code = "import sys, apps.pretrain.prepare; print('tensorflow' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
    assert "--vocabulary" in program("--help").stdout


def test_the_program_prepares_with_a_progress_bar_and_fails_with_one_line(inputs: list[str], tmp_path: Path):
    (tmp_path / "run.yaml").write_text("tokenizer: {vocab_size: 340}\ntrain: {steps: 1}\n")
    arguments = [f"--input={path}" for path in inputs]
    arguments += ["--config", str(tmp_path / "run.yaml"), "--output", str(tmp_path / "corpus")]
    result = program(*arguments, "--set", "data.held_out_share=0.1")
    assert result.returncode == 0, result.stderr
    assert "B/s]" in result.stderr
    assert "train: " in result.stdout
    assert data.open_corpus(tmp_path / "corpus").manifest["settings"]["data"]["held_out_share"] == 0.1
    refused = program(*arguments)
    assert refused.returncode == 1
    assert refused.stderr.strip().splitlines()[-1].startswith(f"error: {tmp_path / 'corpus'}: there is something")
    assert "Traceback" not in refused.stderr


@pytest.mark.skipif("KERASLLM_DATA" not in os.environ, reason="KERASLLM_DATA names no folder of real data")
def test_real_text_of_three_forms_is_prepared(tmp_path: Path):
    folder = os.environ["KERASLLM_DATA"]
    inputs = [
        f"heading:{folder}/wikitext2/*.txt",
        f"doc_marker:{folder}/us_speeches",
        f"blank_line:{folder}/zh_wiki_paragraphs/contexts.txt",
    ]
    manifest = data.prepare_corpus(inputs, tmp_path / "corpus", run_of(vocab_size=8192, held_out_share=0.05))
    documents = [source["train"]["documents"] + source["held_out"]["documents"] for source in manifest["sources"]]
    assert documents[0] == 60  # articles of WikiText-2's validation part
    assert min(documents) > 50
    split = data.open_corpus(tmp_path / "corpus", verify=True).split("train")
    unknown = sum(int((split.tokens(i) == split.tokenizer.special.unk).sum()) for i in range(split.num_documents))
    assert unknown < 0.01 * split.num_tokens
