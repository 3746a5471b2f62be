"""With what does the gRPC server listen? Sockets, TLS by --ssl_config_file, channel arguments, health service."""

import ssl
import tempfile
from dataclasses import dataclass

import grpc
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import HealthServicer

from kerasllm.errors import ServingError
from serving.server.proto_text import read_text_message
from serving.server.status import invalid

_STRING = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
_BOOL = descriptor_pb2.FieldDescriptorProto.TYPE_BOOL
_SSL_CONFIG = {"server_key": (1, _STRING), "server_cert": (2, _STRING), "custom_ca": (3, _STRING)}
_USUAL = {
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
    "grpc.so_reuseport": 0,  # otherwise two servers would share a busy port in silence
}


@dataclass(frozen=True)
class Transport:
    """What the gRPC server listens with, beside a port.

    Attributes:
      socket_path: of a UNIX socket to listen at too.
      credentials: of TLS; None: plain text.
      channel_arguments: options of gRPC.
      health: the service grpc.health.v1.Health, if it is offered.
    """

    socket_path: str = ""
    credentials: grpc.ServerCredentials | None = None
    channel_arguments: tuple[tuple[str, int | str], ...] = ()
    health: HealthServicer | None = None

    def options(self) -> list[tuple[str, int | str]]:
        """The server's options; what is asked for goes before what is usual."""
        return list({**_USUAL, **dict(self.channel_arguments)}.items())

    def open(self, server: grpc.Server, host: str, port: int) -> int:
        """Binds all addresses and returns the port's number.

        Raises:
          ServingError: the port is taken, the host is not this machine's, or the socket cannot be made.
        """
        bound = self._bind(server, f"{host}:{port}")
        if not bound:
            keys = " Or the key and the certificate of --ssl_config_file do not fit." if self.credentials else ""
            raise ServingError(
                f"Cannot listen at {host}:{port}: the port is in use or may not be opened. Choose another --port.{keys}"
            )
        if self.socket_path and not self._bind(server, f"unix:{self.socket_path}"):
            raise ServingError(
                f"Cannot listen at unix:{self.socket_path}: its folder is missing or may not be written to, or the "
                "path is longer than about 100 bytes. Choose another --grpc_socket_path."
            )
        return bound

    def _bind(self, server: grpc.Server, address: str) -> int:
        try:
            if self.credentials is None:
                return server.add_insecure_port(address)
            return server.add_secure_port(address, self.credentials)
        except RuntimeError:
            return 0


def health_service() -> HealthServicer:
    """The health service under the names of the stock server; `enter_graceful_shutdown` takes readiness back."""
    service = HealthServicer()
    for name in ("", "ModelService", "PredictionService"):
        service.set(name, health_pb2.HealthCheckResponse.SERVING)
    return service


def parse_channel_arguments(text: str) -> tuple[tuple[str, int | str], ...]:
    """`key=value,key=value` as gRPC takes it; whole numbers are numbers.

    Raises:
      ServingError: a part has no `=`.
    """
    arguments: list[tuple[str, int | str]] = []
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not (key and equals):
            raise ServingError(
                f"--grpc_channel_arguments: {part!r} is not key=value, such as grpc.max_concurrent_streams=8."
            )
        arguments.append((key, int(value) if value.removeprefix("-").isdecimal() else value))
    return tuple(arguments)


@dataclass(frozen=True)
class SslConfig:
    """A key with its certificate, and the authority of the clients' certificates, all in PEM.

    Attributes:
      verifies: clients have to show a certificate of the authority.
    """

    key: str
    certificate: str
    authority: str = ""
    verifies: bool = False

    def credentials(self) -> grpc.ServerCredentials:
        """For gRPC."""
        return grpc.ssl_server_credentials(
            [(self.key.encode(), self.certificate.encode())],
            root_certificates=self.authority.encode() or None,
            require_client_auth=self.verifies,
        )

    def context(self) -> ssl.SSLContext:
        """For HTTP.

        Raises:
          StatusError: key and certificate do not fit.
        """
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=self.authority or None)
        if self.verifies:
            context.verify_mode = ssl.CERT_REQUIRED
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # Python reads keys from files alone
            file.write(f"{self.key}\n{self.certificate}\n")
            file.flush()
            try:
                context.load_cert_chain(file.name)
            except ssl.SSLError as error:
                raise invalid(f"--ssl_config_file: key and certificate do not fit ({error.reason}).") from None
        return context


def read_ssl_config(path: str) -> SslConfig:
    """A text SSLConfig, whose strings are certificates and keys in PEM, not paths.

    Raises:
      StatusError: the file is none, or lacks what it has to hold.
    """
    config = read_text_message(path, "SSLConfig", {**_SSL_CONFIG, "client_verify": (4, _BOOL)})
    for field, marker in (("server_key", "PRIVATE KEY-----"), ("server_cert", "-----BEGIN CERTIFICATE-----")):
        if marker not in getattr(config, field):
            raise invalid(
                f"{path}: {field} holds no PEM text with {marker!r}. Write its lines into the file, with \\n for each "
                "end of line; a path is not read."
            )
    if config.client_verify and not config.custom_ca:
        raise invalid(f"{path}: client_verify needs custom_ca, the authority that signs the clients' certificates.")
    return SslConfig(config.server_key, config.server_cert, config.custom_ca, config.client_verify)
