"""Are documents told apart at every boundary, and are bad inputs named?"""

import gzip
from pathlib import Path

import pytest

from kerasllm.data import documents
from kerasllm.errors import DataError


def texts_of(path: Path | str, boundary: str = "doc_marker", field: str = "text") -> list[tuple[str, str]]:
    found = documents.read_documents(documents.find_sources([str(path)], boundary), field)
    return [(document.origin, document.text) for document in found]


def written(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_doc_markers_begin_documents_and_name_them(tmp_path):
    path = written(tmp_path / "a.txt", "before\n<DOC> First\none\ntwo\n<DOC> Empty\n\n<DOC> Second\r\nthree\r\n")
    assert texts_of(path) == [
        ("a.txt: document 1", "before"),
        ("a.txt: First", "one\ntwo"),
        ("a.txt: Second", "three"),
    ]


def test_blank_lines_stand_between_documents(tmp_path):
    path = written(tmp_path / "a.txt", "one\ntwo\n\n \nthree")
    assert texts_of(path, "blank_line") == [("a.txt: document 1", "one\ntwo"), ("a.txt: document 2", "three")]


def test_only_headings_of_the_first_level_begin_documents_and_lower_ones_are_left_out(tmp_path):
    path = written(
        tmp_path / "a.txt", " = Cat = \n\n Text . \n\n = = Food = = \n\n Fish . \n = = = Sea = = = \n = Dog = \n Bark"
    )
    assert [origin for origin, _ in texts_of(path, "heading")] == ["a.txt: Cat", "a.txt: Dog"]
    assert texts_of(path, "heading")[0][1].split() == ["Text", ".", "Fish", "."]


def test_a_file_can_be_a_document(tmp_path):
    written(tmp_path / "b.txt", "<DOC> kept\n\nas it is")
    written(tmp_path / "a" / "c.txt", "deep")
    assert [text for _, text in texts_of(tmp_path, "file")] == ["deep", "<DOC> kept\n\nas it is"]


def test_every_line_of_jsonl_is_a_document_whatever_the_boundary(tmp_path):
    path = written(tmp_path / "a.jsonl", '{"body": "one\\n\\ntwo"}\n\n{"body": "三"}\n')
    assert [text for _, text in texts_of(path, "blank_line", "body")] == ["one\n\ntwo", "三"]


def test_gz_reads_like_the_file_in_it(tmp_path):
    path = written(tmp_path / "a.txt.gz", gzip.compress("one\n\n二".encode()))
    assert [text for _, text in texts_of(path, "blank_line")] == ["one", "二"]
    path = written(tmp_path / "b.jsonl.gz", gzip.compress(b'{"text": "three"}'))
    assert [text for _, text in texts_of(path)] == ["three"]


def test_patterns_are_sorted_and_a_prefix_says_the_boundary(tmp_path):
    written(tmp_path / "b.txt", "two\n\nthree")
    written(tmp_path / "a.txt", "one")
    assert [text for _, text in texts_of(f"blank_line:{tmp_path}/*.txt", "file")] == ["one", "two", "three"]


def test_a_byte_order_mark_is_no_text(tmp_path):
    assert texts_of(written(tmp_path / "a.txt", b"\xef\xbb\xbfone"))[0][1] == "one"


def test_a_character_across_two_reads_stays_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "_READ_BYTES", 2)
    assert texts_of(written(tmp_path / "a.txt", "利润"))[0][1] == "利润"


def test_a_document_too_long_for_memory_becomes_parts_of_the_same_split(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "MAX_DOCUMENT_CHARACTERS", 10)
    path = written(tmp_path / "a.txt", "\n".join(["12345"] * 6))
    found = list(documents.read_documents(documents.find_sources([str(path)], "file"), "text"))
    assert [document.origin for document in found] == [
        "a.txt: document 1",
        "a.txt: document 1 (part 2)",
        "a.txt: document 1 (part 3)",
    ]
    assert "".join(document.text for document in found).count("12345") == 6
    assert len({document.split_key for document in found}) == 1


def test_the_split_key_is_that_of_the_text_wherever_it_stands(tmp_path):
    first = written(tmp_path / "a.txt", "one\n\ntwo")
    second = written(tmp_path / "b.txt", "two\n\none")
    sources = documents.find_sources([str(first), str(second)], "blank_line")
    keys = [document.split_key for document in documents.read_documents(sources, "text")]
    assert keys == [keys[0], keys[1], keys[1], keys[0]]
    assert 0 <= min(keys) < max(keys) < 1


def test_progress_adds_up_to_the_bytes_of_the_files(tmp_path):
    path = written(tmp_path / "a.txt", "利润\n" * 1000)
    seen: list[int] = []
    list(documents.read_documents(documents.find_sources([str(path)], "file"), "text", seen.append))
    assert sum(seen) == 7000


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"good\n\xff bad", r"a\.txt: not UTF-8 at byte 5"),
        ("a.txt", "cut 利".encode()[:-1], "not UTF-8 at byte 4"),
        ("a.txt", b"", r"a\.txt: the file is empty"),
        ("a.jsonl", b'{"text": "x"}\n{"body": "y"}', r"a\.jsonl:2: no text field 'text' \(found: body\)"),
        ("a.jsonl", b'{"text": 5}', r"a\.jsonl:1: no text field"),
        ("a.jsonl", b"{text}", r"a\.jsonl:1: not JSON"),
        ("a.txt.gz", b"plain", "damaged gzip"),
        ("a.txt.gz", gzip.compress(b"hello" * 100)[:-12], "damaged gzip"),
    ],
)
def test_a_bad_file_is_named_with_the_place(name: str, content: bytes, message: str, tmp_path):
    with pytest.raises(DataError, match=message):
        texts_of(written(tmp_path / name, content))


def test_the_byte_of_a_wrong_encoding_is_counted_over_all_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "_READ_BYTES", 4)
    with pytest.raises(DataError, match="at byte 9"):
        texts_of(written(tmp_path / "a.txt", "利润利".encode() + b"\xff"))


def test_an_input_that_is_not_there_or_an_unknown_boundary_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        documents.find_sources([str(tmp_path / "missing*")], "file")
    with pytest.raises(DataError, match="unknown document boundary 'headings'; known: doc_marker"):
        documents.find_sources([f"headings:{tmp_path}"], "file")
    with pytest.raises(DataError, match="No input"):
        documents.find_sources([], "file")
