"""gRPC as everybody here calls it: mutual TLS, one message limit, keepalive both ways.

gRPC shows a Python client nothing of the server but that its certificate is the CA's, counts now
and carries the expected name; so the name holds role and name (DESIGN section 3, "Identity").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import grpc
import grpc.aio

from secagg.errors import UsageError
from secagg.party import Party
from secagg.renewed_channel import RenewedChannel
from secagg.tls_identity import TlsIdentity

MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
KEEPALIVE_MILLISECONDS: Final = 30_000
KEEPALIVE_ANSWER_MILLISECONDS: Final = 10_000

Options: TypeAlias = Sequence[tuple[str, int | str]]

BOTH_WAYS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", KEEPALIVE_MILLISECONDS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_ANSWER_MILLISECONDS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
"""What server and caller agree on: one limit for messages, and keepalive."""


def channel_options(target: Party, options: Options = ()) -> list[tuple[str, int | str]]:
    """Return the options of a channel to the target; later ones override ours, the name excepted.

    Raises:
        UsageError: the target is of a role that serves nothing.
    """
    if not target.role.serves:
        raise UsageError(f"{target} serves nothing, so it cannot be called")
    # One value for each option: of two, gRPC takes the first.
    return list({**dict(BOTH_WAYS), **dict(options), "grpc.ssl_target_name_override": target.server_name}.items())


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
