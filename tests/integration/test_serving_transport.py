"""Do clients come in by TLS, by a UNIX socket, and by the health service? Real sockets. [n]: protocol checklist."""

import http.client
import shutil
import ssl
import tempfile
import threading
import time
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kerasllm.errors import ServingError
from serving.server.status import StatusError
from serving.server.transport import Transport, health_service, parse_channel_arguments, read_ssl_config
from tests.integration.certificates import write_certificates


@pytest.fixture
def serve():
    """Starts servers without a model, and stops them at the end."""
    from serving.server.core import ServerCore
    from serving.server.services import start_server
    from serving.server.versions import Models

    servers = []

    def start(transport=None):
        server, port = start_server(ServerCore(Models([])), "127.0.0.1", 0, 2, transport)
        servers.append(server)
        return port

    yield start
    for server in servers:
        server.stop(None).wait()


def _asks(channel):
    """The code of a question that a server without models answers with NOT_FOUND."""
    from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "m"
    with channel, pytest.raises(grpc.RpcError) as caught:
        model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, timeout=20)
    return caught.value.code().name


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return write_certificates(tmp_path_factory.mktemp("certificates"))


def _ssl_config(folder, certificates, **fields):
    text = f"server_key: {_quoted(certificates / 'server.key')} server_cert: {_quoted(certificates / 'server.pem')}"
    for name, value in fields.items():
        text += f" {name}: {value}"
    path = folder / "ssl.config"
    path.write_text(text)
    return str(path)


def _quoted(path):
    return '"' + path.read_text().replace("\n", "\\n") + '"'


def _credentials(certificates, has_own):
    own = [(certificates / name).read_bytes() for name in ("client.key", "client.pem")] if has_own else [None, None]
    return grpc.ssl_channel_credentials((certificates / "ca.pem").read_bytes(), *own)


def test_tls_by_an_ssl_config_with_inline_pem(serve, certificates, tmp_path):  # [48]
    port = serve(Transport(credentials=read_ssl_config(_ssl_config(tmp_path, certificates)).credentials()))
    assert _asks(grpc.secure_channel(f"localhost:{port}", _credentials(certificates, False))) == "NOT_FOUND"
    assert _asks(grpc.insecure_channel(f"localhost:{port}")) == "UNAVAILABLE"


def test_client_verify_wants_a_certificate_of_the_authority(serve, certificates, tmp_path):  # [48]
    authority = _quoted(certificates / "ca.pem")
    path = _ssl_config(tmp_path, certificates, custom_ca=authority, client_verify="true")
    port = serve(Transport(credentials=read_ssl_config(path).credentials()))
    assert _asks(grpc.secure_channel(f"localhost:{port}", _credentials(certificates, True))) == "NOT_FOUND"
    assert _asks(grpc.secure_channel(f"localhost:{port}", _credentials(certificates, False))) == "UNAVAILABLE"


def test_an_ssl_config_that_cannot_work_is_refused(certificates, tmp_path):  # [48]
    with pytest.raises(StatusError, match="client_verify needs custom_ca"):
        read_ssl_config(_ssl_config(tmp_path, certificates, client_verify="true"))
    path = tmp_path / "other.config"
    path.write_text('server_key: "/keys/server.key" server_cert: "/keys/server.pem"')
    with pytest.raises(StatusError, match="server_key holds no PEM text.*a path is not read"):
        read_ssl_config(str(path))
    path.write_text("server_key 3")
    with pytest.raises(StatusError, match="Invalid protobuf file: '"):
        read_ssl_config(str(path))
    with pytest.raises(StatusError, match="nowhere"):
        read_ssl_config(str(tmp_path / "nowhere"))


def test_a_key_that_does_not_fit_its_certificate_is_refused(serve, certificates, tmp_path):  # [48]
    for name, other in (("server.key", "client.key"), ("server.pem", "server.pem")):
        shutil.copy(certificates / other, tmp_path / name)
    config = read_ssl_config(_ssl_config(tmp_path, tmp_path))
    with pytest.raises(ServingError, match="the key and the certificate of --ssl_config_file do not fit"):
        serve(Transport(credentials=config.credentials()))
    with pytest.raises(StatusError, match="key and certificate do not fit"):
        config.context()


def test_rest_in_tls_wants_what_the_ssl_config_says(certificates, tmp_path):  # [48]
    from serving.server.core import ServerCore
    from serving.server.rest import RestApi
    from serving.server.rest_server import RestOptions, RestServer
    from serving.server.versions import Models

    authority = _quoted(certificates / "ca.pem")
    config = read_ssl_config(_ssl_config(tmp_path, certificates, custom_ca=authority, client_verify="true"))
    options = RestOptions(num_threads=1, tls=config.context(), grace_s=0)
    server = RestServer(RestApi(ServerCore(Models([]))), "127.0.0.1", 0, options)
    try:
        known = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            _status_over(server.port, known)
        known.load_cert_chain(certificates / "client.pem", certificates / "client.key")
        assert _status_over(server.port, known) == 404  # there is no such model, and it says so
        with pytest.raises(ConnectionError):
            _status_over(server.port, None)
    finally:
        server.close()


def _status_over(port, context):
    """The code of a model's status over HTTPS, or over HTTP without a context."""
    if context is None:
        connection = http.client.HTTPConnection("localhost", port, timeout=20)
    else:
        connection = http.client.HTTPSConnection("localhost", port, timeout=20, context=context)
    try:
        connection.request("GET", "/v1/models/m")
        return connection.getresponse().status
    except http.client.HTTPException as error:
        raise ConnectionError(repr(error)) from error
    finally:
        connection.close()


def test_a_unix_socket_answers_beside_the_port(serve):  # [50]
    with tempfile.TemporaryDirectory() as folder:  # pytest's folders are too long for a socket's name
        path = str(Path(folder) / "socket")
        port = serve(Transport(socket_path=path))
        assert _asks(grpc.insecure_channel(f"unix:{path}")) == "NOT_FOUND"
        assert _asks(grpc.insecure_channel(f"127.0.0.1:{port}")) == "NOT_FOUND"


def test_a_socket_that_cannot_be_made_is_refused(serve, tmp_path):
    with pytest.raises(ServingError, match="Cannot listen at unix:"):
        serve(Transport(socket_path=str(tmp_path / "nowhere" / "socket")))


def test_channel_arguments_reach_grpc(serve):  # [49]
    arguments = parse_channel_arguments("grpc.max_receive_message_length=10,grpc.primary_user_agent=a")
    assert arguments == (("grpc.max_receive_message_length", 10), ("grpc.primary_user_agent", "a"))
    port = serve(Transport(channel_arguments=arguments[:1]))
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    call = channel.unary_unary("/tensorflow.serving.ModelService/GetModelStatus")
    with channel, pytest.raises(grpc.RpcError) as caught:
        call(b"\x0a\x0f\x0a\x0d" + b"m" * 13, timeout=20)
    assert caught.value.code().name == "RESOURCE_EXHAUSTED"
    with pytest.raises(ServingError, match="'grpc.x' is not key=value"):
        parse_channel_arguments("grpc.x")


def _health(port, name):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = health_pb2_grpc.HealthStub(channel).Check
        return call(health_pb2.HealthCheckRequest(service=name), timeout=20).status


def test_health_is_told_when_asked_for_and_taken_back(serve):  # [29]
    health = health_service()
    port = serve(Transport(health=health))
    for name in ("", "ModelService", "PredictionService"):
        assert _health(port, name) == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        _health(port, "tensorflow.serving.PredictionService")
    assert caught.value.code().name == "NOT_FOUND"
    health.enter_graceful_shutdown()
    assert _health(port, "") == health_pb2.HealthCheckResponse.NOT_SERVING


def test_health_is_not_offered_by_default(serve):  # [29]
    port = serve()
    with pytest.raises(grpc.RpcError) as caught:
        _health(port, "")
    assert caught.value.code().name == "UNIMPLEMENTED"


def test_a_request_that_is_cancelled_while_it_waits_is_not_run():
    from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

    from serving.server.core import ServerCore
    from serving.server.services import start_server
    from serving.server.versions import Models

    running, go_on, asked = threading.Event(), threading.Event(), []

    class SlowCore(ServerCore):
        def status(self, request):
            asked.append(request.model_spec.name)
            running.set()
            go_on.wait()
            return super().status(request)

    server, port = start_server(SlowCore(Models([])), "127.0.0.1", 0, 1)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        calls = []
        for name in ("first", "cancelled", "last"):
            request = get_model_status_pb2.GetModelStatusRequest()
            request.model_spec.name = name
            calls.append(stub.GetModelStatus.future(request, timeout=60))
            running.wait()
        time.sleep(0.2)
        calls[1].cancel()
        time.sleep(0.2)
        go_on.set()
        assert calls[2].exception().code().name == "NOT_FOUND"
        assert asked == ["first", "last"]
    server.stop(None).wait()
