"""How long messages are: in protobuf's encoding, signed, and as HTTP/2 frames in TLS records on a wire.

Sources: protobuf's encoding; RFC 9113, section 4 (frames); RFC 8446, section 5.2 (records). The three constants of a connection
and of a call hold what cannot be derived, gRPC's choice of headers, settings and window updates; they were measured with a relay
that counts (`tests/integration/test_planned_rounds.py` holds the sums to 2 %).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from secagg import codec
from secagg.identity import Role, SignedMessage, Signer

DIGEST_FIELD: Final = 34
"""32 bytes with tag and length."""
DOUBLE_FIELD: Final = 9
REQUEST_ID_BYTES: Final = 32
SIGNATURE_BYTES: Final = 71
"""P-256 in DER: 70 to 72, this on average."""
PART_BYTES: Final = 1024 * 1024
"""The longest part of an upload or a download."""

_FRAME_PAYLOAD: Final = 16_384
_FRAME_BYTES: Final = 9
_RECORD_BYTES: Final = 22
"""TLS 1.3: header, content type and AEAD tag."""
_MESSAGE_BYTES: Final = 5
"""gRPC's flag and length before each message."""

CONNECTION_UP: Final = 2_380
"""Hello, Finished, HTTP/2's preface and settings of the side that dials; its certificate comes on top."""
CONNECTION_DOWN: Final = 2_580
"""The same of the side that serves, with its request for a certificate and its session tickets, which hold the caller's."""
CALL_UP: Final = 72
"""Headers of a call and window updates, beyond the frames of its messages."""
CALL_DOWN: Final = 90
"""Headers and trailers of its answer, likewise."""
RETURN_SHARE: Final = 0.00006
"""Window updates and pings that go against a stream of data, for each of its bytes."""

_CERTIFICATE: Final = {Role.CLIENT: (459, 2), Role.KEY_HOLDER: (519, 3), Role.COORDINATOR: (520, 3)}
"""DER as `secagg pki` issues it: bytes, and bytes for each character of the name, which stands in it so often."""


def certificate_bytes(role: Role, name_bytes: int) -> int:
    """Return the length of a certificate of `secagg pki`, DER; another CA's may be some hundred bytes longer."""
    fixed, each = _CERTIFICATE[role]
    return fixed + each * name_bytes


def varint(number: int) -> int:
    """Return how many bytes a number takes."""
    return max(1, -(-number.bit_length() // 7))


def field(length: int) -> int:
    """Return how many bytes a field of bytes, text or a message takes; 0 where it is empty, as proto3 leaves it out."""
    return 1 + varint(length) + length if length else 0


def number_field(number: int) -> int:
    """Return how many bytes a field with a whole number takes; 0 for 0."""
    return 1 + varint(number) if number else 0


def on_wire(message_bytes: int) -> int:
    """Return what one message takes on a connection: gRPC's prefix, HTTP/2 frames, TLS records."""
    whole = message_bytes + _MESSAGE_BYTES
    return whole + -(-whole // _FRAME_PAYLOAD) * (_FRAME_BYTES + _RECORD_BYTES)


class _OnPaper(Signer):
    """Signs nothing, in the length of a signature."""

    def __init__(self, certificate: bytes) -> None:
        self._paper = certificate

    def sign(self, label: bytes, payload: bytes) -> SignedMessage:  # noqa: ARG002 - as the real one
        return SignedMessage(payload=payload, signature=bytes(SIGNATURE_BYTES), certificate=self._paper)


def signed_bytes(message: object, role: Role, name_bytes: int) -> int:
    """Return the length of a message as its signer, of that role and a name of that length, sends it."""
    paper = _OnPaper(bytes(certificate_bytes(role, name_bytes)))
    return len(codec.signed_to_bytes(codec.sign(message, paper)))


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What one party sends (``up``) and receives (``down``) in a round, in bytes on the wire, by what it is for."""

    up: dict[str, int]
    down: dict[str, int]

    @property
    def total_up(self) -> int:
        """All that is sent."""
        return sum(self.up.values())

    @property
    def total_down(self) -> int:
        """All that is received."""
        return sum(self.down.values())


def with_overhead(
    up: dict[str, int], down: dict[str, int], *, calls: int, dials: Role, serves: Role, name: int
) -> Traffic:
    """Add what a connection and its calls take: ``up`` is of the side that dials."""
    against_up, against_down = (round(RETURN_SHARE * sum(way.values())) for way in (down, up))
    opened_up = CONNECTION_UP + certificate_bytes(dials, name)
    opened_down = CONNECTION_DOWN + certificate_bytes(serves, name)
    return Traffic(
        up=up | {"connection and calls": opened_up + calls * CALL_UP + against_up},
        down=down | {"connection and calls": opened_down + calls * CALL_DOWN + against_down},
    )
