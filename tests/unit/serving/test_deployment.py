"""Are the files of serving/tf_serving what their programs read? Real messages, real schemas, and names that fit."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.unit.serving.test_flags import STOCK

PROJECT = Path(__file__).parents[3]
FOLDER = PROJECT / "serving" / "tf_serving"
CLUSTER = sorted([*(FOLDER / "kubernetes").glob("*.yaml"), PROJECT / "docs" / "cluster" / "pretrain.kubernetes.yaml"])


def documents(path):
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def deployment(name):
    [found] = documents(FOLDER / "kubernetes" / name)
    return found


def container(name):
    [found] = deployment(name)["spec"]["template"]["spec"]["containers"]
    return found


def compose():
    [found] = documents(FOLDER / "compose.yaml")
    return found


def dockerfile(name):
    """The Dockerfile's instructions as (name, value)."""
    from dockerfile_parse import DockerfileParser

    parser = DockerfileParser(fileobj=io.BytesIO((FOLDER / name).read_bytes()))
    return [(step["instruction"], step["value"]) for step in parser.structure if step["instruction"] != "COMMENT"]


def test_the_models_are_a_model_server_config():
    from google.protobuf import text_format
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

    parsed = text_format.Parse((FOLDER / "models.config").read_text(), ModelServerConfig())
    assert [model.base_path for model in parsed.model_config_list.config] == ["/models/sentiment"]


def test_batching_is_what_a_queue_can_work_with():
    from serving.server.batching_parameters import read_batching_parameters

    parameters = read_batching_parameters(FOLDER / "batching.config")
    parameters.check_queue()
    parameters.check_threads()
    assert (parameters.max_batch_size, parameters.batch_timeout_micros) == (32, 2000)


def test_prometheus_reads_the_page_that_monitoring_opens_at_the_port_of_rest():
    from serving.server.metrics import read_monitoring_path

    [job] = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())["scrape_configs"]
    path = read_monitoring_path(str(FOLDER / "monitoring.config"))
    assert job["metrics_path"] == path
    [target] = job["static_configs"][0]["targets"]
    host, port = target.split(":")
    assert f"127.0.0.1:{port}:{port}" in compose()["services"][host]["ports"]
    for name in ("stock.yaml", "embedded.yaml"):
        annotations = deployment(name)["spec"]["template"]["metadata"]["annotations"]
        assert (annotations["prometheus.io/path"], annotations["prometheus.io/port"]) == (path, port)


def test_compose_is_valid_by_the_schema_of_compose():
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    finished = subprocess.run([*command, FOLDER / "compose.yaml"], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout


@pytest.mark.parametrize("path", CLUSTER, ids=lambda path: path.name)
def test_manifests_are_valid_by_the_schemas_of_kubernetes(path):
    import kubernetes_validate

    version = kubernetes_validate.latest_version()
    for document in documents(path):
        kubernetes_validate.validate(document, version, strict=True)


def test_service_autoscaler_and_budget_are_about_the_pods_of_both_deployments():
    service, autoscaler, budget = documents(FOLDER / "kubernetes" / "service.yaml")
    for name in ("stock.yaml", "embedded.yaml"):
        found = deployment(name)
        labels = found["spec"]["template"]["metadata"]["labels"]
        assert found["spec"]["selector"]["matchLabels"] == labels
        assert service["spec"]["selector"] == labels
        assert budget["spec"]["selector"]["matchLabels"] == labels
        target = autoscaler["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) == (found["kind"], found["metadata"]["name"])
        assert "replicas" not in found["spec"]
        assert budget["spec"]["minAvailable"] < autoscaler["spec"]["minReplicas"]
        ports = {port["name"]: port["containerPort"] for port in container(name)["ports"]}
        assert {port["targetPort"]: port["port"] for port in service["spec"]["ports"]} == ports


def test_a_pod_has_more_time_to_end_than_it_waits_and_drains():
    for name in ("stock.yaml", "embedded.yaml"):
        waits = int(container(name)["lifecycle"]["preStop"]["exec"]["command"][1])
        drains = sum(int(flag.partition("=")[2]) for flag in container(name)["args"] if "drain_seconds" in flag)
        assert waits + drains < deployment(name)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("where", ["compose.yaml", "stock.yaml"])
def test_the_stock_server_is_started_with_flags_that_it_has(where):
    flags = compose()["services"]["model-server"]["command"] if where == "compose.yaml" else container(where)["args"]
    for flag in flags:
        name, equals, _ = flag.removeprefix("--").partition("=")
        assert name in STOCK
        assert equals, f"{flag}: the stock server reads --name=value"
    assert files_of(flags) == {"models.config", "batching.config", "monitoring.config"}


def test_the_embedded_server_is_started_with_flags_that_it_has():
    entry_point = json.loads(dict(dockerfile("Dockerfile.server"))["ENTRYPOINT"])
    assert entry_point[:3] == ["python", "-m", "serving.server"]
    flags = [*entry_point[3:], *container("embedded.yaml")["args"]]
    code = (
        "from serving.server.flags import FLAGS, check_flags, parse_flags\n"
        f"assert parse_flags(['server', *{flags!r}]) == ['server']\n"
        "check_flags()\n"
        "print(FLAGS.host, FLAGS.port, FLAGS.rest_api_port, FLAGS.rest_api_health, FLAGS.drain_seconds)"
    )
    finished = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert finished.stdout == "0.0.0.0 8500 8501 True 20.0\n", finished.stderr
    assert "is ignored" not in finished.stderr
    assert files_of(flags) == {"models.config", "batching.config", "monitoring.config"}
    probes = {container("embedded.yaml")[probe]["httpGet"]["path"] for probe in ("readinessProbe", "livenessProbe")}
    assert probes == {"/readyz", "/healthz"}


def files_of(flags):
    """Files of this folder that flags name, each of which has to be there."""
    found = {match[1] for flag in flags if (match := re.fullmatch(r"--\w+=/config/(.+)", flag))}
    assert all((FOLDER / name).is_file() for name in found)
    return found


@pytest.mark.parametrize("name", ["Dockerfile.server", "Dockerfile.training"])
def test_an_image_copies_what_is_there_and_runs_its_program_itself_without_root(name):
    steps = dockerfile(name)
    assert steps[0][0] == "FROM"
    for instruction, value in steps:
        if instruction == "COPY":
            assert all((PROJECT / source).exists() for source in value.split()[:-1]), value
    order = [instruction for instruction, _ in steps]
    assert order.index("USER") > max(place for place, each in enumerate(order) if each == "RUN")
    settings = dict(steps)
    assert int(settings["USER"]) > 0
    assert settings["STOPSIGNAL"] == "SIGTERM"
    assert isinstance(json.loads(settings["ENTRYPOINT"]), list)  # no shell between the signal and the program


def test_the_readme_names_every_file_and_no_other():
    named = set(re.findall(r"`((?:kubernetes/)?[\w.]+)`", (FOLDER / "README.md").read_text(encoding="utf-8")))
    there = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()} - {"README.md"}
    assert there <= named
    assert {name for name in named if (name.endswith((".config", ".yaml")) or "Docker" in name)} <= there
