"""Are ModelServerConfig files read, and refused for the right reasons?"""

from pathlib import Path

import pytest

from serving.server.model_config import model_configs, parse_model_server_config, read_model_configs
from serving.server.status import StatusError
from serving.server.versions import ModelConfig

ROOT = Path(__file__).parents[3]


def _write(tmp_path, models):
    path = tmp_path / "models.config"
    path.write_text(f"model_config_list {{ {models} }}")
    return str(path)


def test_the_file_for_the_stock_server_is_read():
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    path = ROOT / "serving" / "tf_serving" / "models.config"
    parsed = text_format.Parse(path.read_text(), model_server_config_pb2.ModelServerConfig())
    assert [config.name for config in parsed.model_config_list.config] == ["sentiment"]
    assert read_model_configs(str(path)) == [ModelConfig("sentiment", Path("/models/sentiment"), latest=1)]


def test_version_policies_are_read(tmp_path):
    path = _write(
        tmp_path,
        'config { name: "a" base_path: "/a" model_platform: "tensorflow" model_version_policy { all {} } }'
        'config { name: "b" base_path: "/b" model_platform: "tensorflow"'
        " model_version_policy { specific { versions: 3 versions: 5 } } }"
        'config { name: "c" base_path: "/c" model_platform: "tensorflow"'
        " model_version_policy { latest { num_versions: 2 } } }",
    )
    assert read_model_configs(path) == [
        ModelConfig("a", Path("/a"), latest=None),
        ModelConfig("b", Path("/b"), specific=(3, 5)),
        ModelConfig("c", Path("/c"), latest=2),
    ]


GOOD_IN_JAX = 'config { name: "m" base_path: "/m" model_platform: "jax" }'
GOOD = 'name: "m" base_path: "/m" model_platform: "tensorflow"'


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ("config { name: 3 }", "Invalid protobuf file: '"),
        ("", "names no model"),
        (f"config {{ {GOOD} }} config {{ {GOOD} }}", "Illegal to list model m multiple times in config list"),
        (
            'config { name: "m" base_path: "here" model_platform: "tensorflow" }',
            r"Expected model m to have an absolute path or URI; got base_path\(\)=here",
        ),
        ('config { name: "m" base_path: "/m" }', "Illegal setting neither ModelServerConfig::model_type"),
        ('config { name: "m" base_path: "/m" model_platform: "jax" }', "Model m requests unsupported platform jax"),
        (f"config {{ {GOOD} logging_config {{}} }}", "No request-logger-creator provided."),
    ],
)
def test_what_cannot_be_served_is_refused(tmp_path, models, message):
    with pytest.raises(StatusError, match=message):
        read_model_configs(_write(tmp_path, models))


def test_version_labels_are_read(tmp_path):
    path = _write(tmp_path, f'config {{ {GOOD} version_labels {{ key: "stable" value: 1 }} }}')
    assert read_model_configs(path)[0].labels == {"stable": 1}


def test_a_served_model_keeps_its_platform(tmp_path):
    parsed = parse_model_server_config(_write(tmp_path, GOOD_IN_JAX))
    with pytest.raises(StatusError) as caught:
        model_configs(parsed, ["m"])
    assert caught.value.message == (
        "Illegal to change a model's platform. For model m platform was tensorflow and new platform requested is jax"
    )


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StatusError, match="nowhere"):
        read_model_configs(str(tmp_path / "nowhere"))
