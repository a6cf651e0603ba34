"""What a server takes from gRPC: mutual TLS with the newest certificate, keepalive, and a port of its own.

The caller's half stands in `secagg.channels`, and is handed on here: a client loads that half alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

import grpc
import grpc.aio

from secagg.access import AccessTable, RoleInterceptor, caller_of, current_caller
from secagg.channels import BOTH_WAYS, MAX_MESSAGE_BYTES, channel_options, open_channel, open_sync_channel
from secagg.errors import ConfigError, UsageError
from secagg.rpc_errors import error_from_rpc, raise_from_rpc
from secagg.tls_identity import TlsIdentity, TlsPaths

__all__ = [
    "MAX_MESSAGE_BYTES",
    "AccessTable",
    "RoleInterceptor",
    "TlsIdentity",
    "TlsPaths",
    "bind_port",
    "caller_of",
    "channel_options",
    "current_caller",
    "error_from_rpc",
    "open_channel",
    "open_sync_channel",
    "raise_from_rpc",
    "server_credentials",
    "server_options",
]

LEAST_PING_GAP_MILLISECONDS: Final = 10_000
"""A server drops a peer that pings more often than this."""


def server_options() -> list[tuple[str, int | str]]:
    """Return the options of every server; two of them never share a port silently."""
    return [
        *BOTH_WAYS,
        ("grpc.so_reuseport", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", LEAST_PING_GAP_MILLISECONDS),
        ("grpc.http2.max_ping_strikes", 2),
    ]


def server_credentials(identity: TlsIdentity) -> grpc.ServerCredentials:
    """Return credentials that show the newest certificate and ask every caller for one of the same CA."""
    first = _configuration(identity.current)
    # gRPC documents None for "as before"; its stubs leave it out.
    renewals = cast("Callable[[], grpc.ServerCertificateConfiguration]", _Renewals(identity))
    return grpc.dynamic_ssl_server_credentials(first, renewals, require_client_authentication=True)


class _Renewals:
    """What gRPC asks at every handshake, in a thread of its own: whether there is another certificate to show."""

    def __init__(self, identity: TlsIdentity) -> None:
        self._identity = identity
        self._shown = identity.current.certificate_pem

    def __call__(self) -> grpc.ServerCertificateConfiguration | None:
        newest = self._identity.current
        if newest.certificate_pem == self._shown:
            return None
        self._shown = newest.certificate_pem
        return _configuration(newest)


def _configuration(identity: TlsIdentity) -> grpc.ServerCertificateConfiguration:
    pair = (identity.private_key_pem, identity.certificate_pem)
    return grpc.ssl_server_certificate_configuration([pair], root_certificates=identity.authority_pem)


def bind_port(server: grpc.aio.Server, address: str, identity: TlsIdentity) -> int:
    """Let the server listen with mutual TLS; return the port, which the system picks for port 0.

    Raises:
        ConfigError: the port is in use, or the address is not this machine's.
        UsageError: the identity is of a role that serves nothing.
    """
    if not identity.party.role.serves:
        raise UsageError(f"{identity.party} cannot serve", next_step="Use a coordinator or key-holder certificate")
    try:
        port = server.add_secure_port(address, server_credentials(identity))
    except RuntimeError:
        port = 0
    if port == 0:
        advice = "Stop what listens there, or choose another address"
        raise ConfigError(f"{address} is in use, or not an address of this machine", next_step=advice)
    return port
