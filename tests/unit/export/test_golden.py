"""Do golden answers survive their file, and is every sort of difference told?"""

import json

import numpy as np
import pytest

from kerasllm.errors import ExportError
from kerasllm.export.golden import GOLDEN_TEXTS, PARITY_FILE, Call, differences, parity_json, read_parity

TEXTS = np.array([text.encode() for text in GOLDEN_TEXTS], object)


def test_the_golden_texts_hold_what_breaks_tokenizers():
    assert "" in GOLDEN_TEXTS
    assert any("\x00" in text for text in GOLDEN_TEXTS)
    assert any(len(text) > 3000 for text in GOLDEN_TEXTS)
    assert any("😀" in text for text in GOLDEN_TEXTS)
    assert any("公司" in text and "Apple" in text for text in GOLDEN_TEXTS)


def test_calls_come_out_of_their_file_bit_for_bit(tmp_path):
    floats = np.float32([[1 / 3, 1e-30, np.nan], [-0.0, np.inf, 0.1]])
    raw = np.array([b"\xff\x00", b"\x08\x01", *TEXTS], object)  # serialized Examples are no UTF-8
    ids = np.array([[2, 3]], np.int32)
    outputs = {"floats": floats, "ids": ids, "empty": np.zeros([0, 3], np.float32), "is_set": np.array([True])}
    path = tmp_path / PARITY_FILE
    path.write_text(parity_json([Call("a/b", {"text": TEXTS}, outputs), Call("raw", {"inputs": raw}, {})]))
    first, second = read_parity(path)
    assert first.signature == "a/b"
    assert first.inputs["text"].tolist() == TEXTS.tolist()
    for name, array in outputs.items():
        assert first.outputs[name].dtype == array.dtype
        np.testing.assert_array_equal(first.outputs[name], array)
    assert second.inputs["inputs"].tolist() == raw.tolist()


@pytest.mark.parametrize("content", ["", "[]", '{"format_version": 1}', '{"format_version": 9, "calls": []}'])
def test_a_damaged_file_is_refused_by_name(tmp_path, content):
    (tmp_path / PARITY_FILE).write_text(content)
    with pytest.raises(ExportError, match=r"parity\.json .*Export again"):
        read_parity(tmp_path / PARITY_FILE)


def _told(expected, served):
    return next(differences(Call("s", {}, {"y": expected}), {"y": served}))


def test_the_largest_difference_of_floats_is_told():
    told = _told(np.float32([[0.2, 0.8]]), np.float32([[0.2001, 0.7999]]))
    assert (told.place, told.problem) == ("s/y", "")
    assert told.largest == pytest.approx(1e-4, rel=1e-2)


def test_other_shapes_ids_strings_and_names_are_told():
    ids = np.array([[2, 5, 3]], np.int32)
    assert _told(ids, ids).problem == ""
    assert "1 of 3 differ; the first at (0, 1): " in _told(ids, ids + [[0, 1, 0]]).problem
    assert "shape (1, 2) served, (1, 3) from the model" in _told(ids, ids[:, :2]).problem
    assert "b'b' served, b'a' from the model" in _told(np.array([b"a"], object), np.array([b"b"], object)).problem
    assert "is not served; there is z" in next(differences(Call("s", {}, {"y": ids}), {"z": ids})).problem


def test_every_export_carries_golden_answers_with_token_ids(exported):
    calls = {call.signature: call for call in read_parity(exported / "assets.extra" / PARITY_FILE)}
    assert set(calls) == {"serving_default", "labels", "token_ids", "classify"}
    assert calls["serving_default"].inputs["text"].tolist() == TEXTS.tolist()
    ids = calls["token_ids"].outputs["token_ids"]
    assert ids.shape == (len(TEXTS), 16)  # the longest is cut to export.sequence_length
    assert ids[GOLDEN_TEXTS.index("")].tolist() == [2, 3, *[0] * 14]  # [CLS] [SEP] and padding
    assert json.loads((exported / "assets.extra" / PARITY_FILE).read_text())["format_version"] == 1
