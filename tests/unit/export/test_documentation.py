"""Does the description of what a model answers name every signature that a classifier has?"""

from pathlib import Path

from tensorflow.core.protobuf import saved_model_pb2

DESCRIPTION = Path(__file__).parents[3] / "serving" / "README.md"


def test_every_signature_of_a_classifier_is_described(exported: Path) -> None:
    [graph] = saved_model_pb2.SavedModel.FromString((exported / "saved_model.pb").read_bytes()).meta_graphs
    names = {name for name in graph.signature_def if not name.startswith("__")}
    assert names >= {"serving_default", "labels"}
    described = DESCRIPTION.read_text(encoding="utf-8")
    assert [name for name in sorted(names) if f"\n| `{name}`" not in described] == []
