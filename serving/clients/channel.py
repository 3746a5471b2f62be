"""How does a client reach its server? Plain or in TLS, at all addresses of a name, and again if nobody was there."""

import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc

from kerasllm.errors import ConfigError

_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),  # a server that comes up is seen soon
    ("grpc.max_reconnect_backoff_ms", 2000),
    # A name with several addresses, such as a headless Service, has its calls spread over all of them.
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
]


@dataclass(frozen=True)
class Tls:
    """What a client trusts, and what it shows of itself; all are files in PEM.

    Attributes:
      authority: of the server's certificate; None: those that gRPC brings along.
      key: of the client, and its certificate: for servers that want one (client_verify).
      server_name: that the server's certificate is for, where that is not the address.
    """

    authority: str | os.PathLike[str] | None = None
    key: str | os.PathLike[str] | None = None
    certificate: str | os.PathLike[str] | None = None
    server_name: str | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """For gRPC.

        Raises:
          ConfigError: a file cannot be read, or of key and certificate one is missing.
        """
        if (self.key is None) != (self.certificate is None):
            raise ConfigError("a client's key and its certificate go together: give both files or none.")
        return grpc.ssl_channel_credentials(*map(_content, (self.authority, self.key, self.certificate)))


@dataclass(frozen=True)
class Retries:
    """How often a call is tried that finds its server UNAVAILABLE: nobody there yet, going away, or its queue full.

    Other failures are never tried again: they would come again, or the call may have cost its time already. All
    attempts share the call's deadline.

    Attributes:
      max_attempts: of a call in all; 1: no second one.
      first_pause_s: at most, before the second attempt; each pause is between half of its length and all of it, so
        that many clients do not come back together, and twice as long as the one before.
      longest_pause_s: at most.
    """

    max_attempts: int = 4
    first_pause_s: float = 0.1
    longest_pause_s: float = 2.0

    def pauses(self) -> Iterator[float]:
        """Seconds to wait before each further attempt."""
        length = self.first_pause_s
        for _ in range(self.max_attempts - 1):
            yield random.uniform(0.5, 1.0) * min(length, self.longest_pause_s)
            length *= 2


def open_channel(address: str, tls: Tls | None) -> grpc.Channel:
    """A channel to HOST:PORT or unix:PATH; it connects with the first call.

    Raises:
      ConfigError: as Tls.credentials.
    """
    if tls is None:
        return grpc.insecure_channel(address, options=_OPTIONS)
    named = [("grpc.ssl_target_name_override", tls.server_name)] if tls.server_name else []
    return grpc.secure_channel(address, tls.credentials(), options=[*_OPTIONS, *named])


def _content(path: str | os.PathLike[str] | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the certificate or key ({error.strerror}).") from None
