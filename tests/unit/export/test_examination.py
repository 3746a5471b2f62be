"""Is told of any SavedModel what a stock server would make of it, and how to mend that? [n]: the protocol checklist."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from kerasllm.errors import ExportError
from kerasllm.export import examine
from kerasllm.export.checks import graph_findings, read_meta_graph
from kerasllm.export.golden import PARITY_FILE
from kerasllm.export.made_up import made_up_inputs
from kerasllm.export.operations import all_servers, servers_without
from kerasllm.export.warmup import WARMUP_FILE, write_warmup
from serving.export import check


def _strings(name):
    return {name: tf.TensorSpec([None], tf.string)}


@pytest.fixture(scope="module")
def troubled(tmp_path_factory):
    """A batched SavedModel with a good signature and one of each trouble; and what was found."""

    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.weights = tf.Variable(tf.random.stateless_uniform([2000], [1, 2]))
            self.same = tf.Variable(self.weights)

    module = Module()

    signatures = {
        "good": (lambda ids: {"y": tf.gather(module.weights, ids)}, {"ids": tf.TensorSpec([None, None], tf.int32)}),
        "examples": (
            lambda inputs: {
                "y": tf.io.parse_example(
                    inputs,
                    {"age": tf.io.FixedLenFeature([2], tf.int64), "tags": tf.io.VarLenFeature(tf.string)},
                )["age"]
            },
            _strings("inputs"),
        ),
        "number": (lambda text: {"y": tf.strings.to_number(text)}, _strings("text")),
        "total": (lambda x: {"y": tf.reduce_sum(x) + module.same[0]}, {"x": tf.TensorSpec([None], tf.float32)}),
        "twice": (lambda x: {"y": tf.concat([x, x], 0)}, {"x": tf.TensorSpec([None], tf.float32)}),
        "broken": (lambda x: {"y": tf.reshape(x, [-1, 7])}, {"x": tf.TensorSpec([None], tf.float32)}),
        "asks": (lambda text: {"y": tf.io.decode_base64(text)}, _strings("text")),
    }
    traced = {name: tf.function(one).get_concrete_function(**specs) for name, (one, specs) in signatures.items()}
    folder = tmp_path_factory.mktemp("troubled") / "latest"
    tf.saved_model.save(module, str(folder), signatures=traced)
    (folder / "batching_params.pbtxt").write_text("max_batch_size { value: 8 }\n")
    (folder / "assets.extra").mkdir()
    requests = [
        ("asks", {"text": np.array([b"YWJj"], object)}),
        ("good", {"ids": np.array([[5000]], np.int32)}),
        ("gone", {"x": np.float32([1])}),
    ]
    write_warmup(folder / "assets.extra" / WARMUP_FILE, "m", requests)
    return examine(folder)


def _about(examined, *words):
    return [finding for finding in examined.findings if all(word in str(finding) for word in words)]


def test_every_signature_is_run_on_made_up_inputs_of_its_types(troubled):
    assert "6 of 7 signatures run" in troubled.notes[0]  # the Example and the number among them
    (finding,) = _about(troubled, "signature broken does not run")
    assert finding.fails
    assert "InvalidArgumentError: " in finding.problem
    assert "reshape" in finding.problem.lower()  # TensorFlow's own reason, not where it happened
    assert "tf_serving_warmup_requests" in finding.remedy


def test_a_signature_that_wants_other_strings_is_run_on_its_warm_up(troubled):
    assert not _about(troubled, "signature asks")


def test_outputs_that_batching_refuses_are_found_before_and_in_the_run(troubled):
    [total] = _about(troubled, "total: y has shape []")
    [twice] = _about(troubled, "twice: y has 4 rows for 2")
    assert total.fails  # for the folder has a batching_params.pbtxt
    assert twice.fails


def test_warm_up_requests_that_fail_are_found(troubled):
    assert _about(troubled, "a warm-up request of good fails")
    assert _about(troubled, "names signature gone", "good")


def test_weights_stored_twice_and_a_folder_without_number_are_advice(troubled):
    [twice] = _about(troubled, "stored twice")
    [place] = _about(troubled, "'latest' is no version number")
    assert "8000 bytes" in twice.problem
    assert not twice.fails
    assert not place.fails
    assert troubled.fails


def test_an_export_of_ours_has_no_other_finding_than_a_golden_answer_that_was_changed(exported, tmp_path, capsys):
    """[52] [53] [54] [55]."""
    changed = tmp_path / "1"
    shutil.copytree(exported, changed)
    path = changed / "assets.extra" / PARITY_FILE
    content = path.read_text()
    start = content.index("0.", content.index('"probabilities"'))
    path.write_text(content[:start] + "9." + content[start + 2 :])
    with pytest.raises(ExportError, match="1 findings that make a stock TensorFlow Serving fail"):
        check(changed)
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("FAILS   parity.json: serving_default/probabilities differs by 9.0")
    assert told[1].strip().startswith("to mend: ")
    assert "4 of 4 signatures run" in told[2]
    assert "warm-up requests run" in told[3]
    assert "the largest difference is 9.0e+00 (serving_default/probabilities)" in told[4]


def test_an_operation_is_looked_up_in_the_releases_of_the_server():
    assert all_servers() == ("2.19", "2.20")
    for everywhere in ("MatMul", "FastBertNormalize", "TFText>WhitespaceTokenizeWithOffsetsV2", "_If"):
        assert servers_without(everywhere) == ()
    assert servers_without("TFText>RoundRobinTrim") == ("2.19",)
    assert servers_without("DecodeWebP") == ("2.19",)  # core, but new in 2.20
    assert servers_without("DecodeJxl") == ("2.19", "2.20")
    assert servers_without("MyOwnOperation") == ("2.19", "2.20")


def test_the_remedy_names_the_release_that_has_the_operation(tmp_path):
    """[52]."""

    def trim(x):
        import tensorflow_text as tf_text

        row = tf.RaggedTensor.from_row_lengths(x, [tf.size(x)])
        return {"y": tf_text.RoundRobinTrimmer(2).trim([row, row])[0].to_tensor()}

    function = tf.function(trim).get_concrete_function(x=tf.TensorSpec([None], tf.float32))
    tf.saved_model.save(tf.Module(), str(tmp_path / "1"), signatures={"serving_default": function})
    [finding] = graph_findings(read_meta_graph(tmp_path / "1"))
    assert "RoundRobinTrim is not in TensorFlow Serving 2.19, " in finding.problem
    assert finding.remedy.startswith("serve it with 2.20 or later")


def test_folders_without_a_model_for_serving_are_refused_with_what_to_give(tmp_path):
    with pytest.raises(ExportError, match=r"holds no saved_model\.pb\.$"):
        examine(tmp_path)
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "saved_model.pb").write_bytes(b"\xff\xff")
    with pytest.raises(ExportError, match=r"Give the folder of one version, such as .*/3\."):
        examine(tmp_path)
    with pytest.raises(ExportError, match="cannot be read"):
        examine(tmp_path / "3")
    (tmp_path / "3" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ExportError, match="no graph with the tag serve"):
        examine(tmp_path / "3")


def test_a_signature_of_version_one_may_say_no_shape_and_the_wrong_type():
    with tf.Graph().as_default() as graph:
        examples = tf.compat.v1.placeholder(tf.string, [None], name="examples")
        tf.compat.v1.io.parse_example(examples, {"x": tf.io.FixedLenFeature([3], tf.float32)})
    signature = meta_graph_pb2.SignatureDef()
    signature.inputs["inputs"].name = examples.name
    signature.inputs["inputs"].dtype = tf.float32.as_datatype_enum
    _, parsed, *_ = made_up_inputs(signature, graph.as_graph_def())
    example = tf.train.Example.FromString(parsed["inputs"][0])
    assert list(example.features.feature["x"].float_list.value) == [1.0, 1.0, 1.0]
