"""gRPC as everybody here uses it: mutual TLS, one message limit, keepalive both ways.

gRPC shows a Python client nothing of the server but that its certificate is the CA's, counts now
and carries the expected name; so the name holds role and name (DESIGN section 3, "Identity").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, cast

import grpc
import grpc.aio

from secagg.access import AccessTable, RoleInterceptor, caller_of, current_caller
from secagg.errors import ConfigError, UsageError
from secagg.party import Party
from secagg.renewed_channel import RenewedChannel
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

MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
KEEPALIVE_MILLISECONDS: Final = 30_000
KEEPALIVE_ANSWER_MILLISECONDS: Final = 10_000
LEAST_PING_GAP_MILLISECONDS: Final = 10_000
"""A server drops a peer that pings more often than this."""

Options: TypeAlias = Sequence[tuple[str, int | str]]

_BOTH_WAYS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", KEEPALIVE_MILLISECONDS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_ANSWER_MILLISECONDS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)


def server_options() -> list[tuple[str, int | str]]:
    """Return the options of every server; two of them never share a port silently."""
    return [
        *_BOTH_WAYS,
        ("grpc.so_reuseport", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", LEAST_PING_GAP_MILLISECONDS),
        ("grpc.http2.max_ping_strikes", 2),
    ]


def channel_options(target: Party, options: Options = ()) -> list[tuple[str, int | str]]:
    """Return the options of a channel to the target; later ones override ours, the name excepted.

    Raises:
        UsageError: the target is of a role that serves nothing.
    """
    if not target.role.serves:
        raise UsageError(f"{target} serves nothing, so it cannot be called")
    # One value for each option: of two, gRPC takes the first.
    return list({**dict(_BOTH_WAYS), **dict(options), "grpc.ssl_target_name_override": target.server_name}.items())


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


def open_channel(address: str, identity: TlsIdentity, *, target: Party, options: Options = ()) -> grpc.aio.Channel:
    """Open an asyncio channel that only the target's own certificate satisfies.

    With an identity that follows its files, calls after a renewal show the new certificate.

    Args:
        address: `host:port`; where it leads proves nothing, the certificate does.
        identity: who calls.
        target: who must answer.
        options: further channel options.
    """
    chosen = channel_options(target, options)

    def connect(own: TlsIdentity) -> grpc.aio.Channel:
        return grpc.aio.secure_channel(address, _channel_credentials(own), options=chosen)

    return connect(identity) if identity.newest is None else RenewedChannel(identity, connect)


def open_sync_channel(address: str, identity: TlsIdentity, *, target: Party, options: Options = ()) -> grpc.Channel:
    """Open a blocking channel; otherwise as `open_channel`, but it keeps the certificate it was opened with."""
    credentials = _channel_credentials(identity.current)
    return grpc.secure_channel(address, credentials, options=channel_options(target, options))


def _channel_credentials(identity: TlsIdentity) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        root_certificates=identity.authority_pem,
        private_key=identity.private_key_pem,
        certificate_chain=identity.certificate_pem,
    )
