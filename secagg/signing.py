"""Signed messages: the exact bytes that were signed, the signature, the signer's certificate.

ECDSA on P-256 with SHA-256 over `label || 0x00 || payload length (u64 LE) || payload`. ECDSA
signatures are not unique: two signatures of one payload differ, so whoever asks whether the
same thing was submitted twice compares payloads, never signatures.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from secagg.errors import CertificateError, MessageError, UsageError
from secagg.labels import is_label
from secagg.party import Party, Role, party_of
from secagg.trust import TrustRoot, read_certificate

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

MAX_SIGNATURE_BYTES: Final = 72
"""The longest DER form of a P-256 signature."""


@dataclass(frozen=True, kw_only=True)
class SignedMessage:
    """What travels and what is stored; `verify_signed` tells whether it counts.

    Attributes:
        payload: the bytes that were signed, never re-encoded.
        signature: DER, at most 72 bytes.
        certificate: the signer's certificate, DER.
    """

    payload: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    certificate: bytes = field(repr=False)


class Signer:
    """A party's private key together with the certificate that vouches for it.

    Args:
        private_key: P-256.
        certificate: the matching certificate, DER.

    Raises:
        CertificateError: the two do not belong together, or the certificate names nobody.
    """

    __slots__ = ("_certificate", "_party", "_private_key")

    def __init__(self, *, private_key: ec.EllipticCurvePrivateKey, certificate: bytes) -> None:
        parsed = read_certificate(certificate)
        if parsed.public_key() != private_key.public_key():
            raise CertificateError(
                "the private key does not belong to the certificate",
                next_step="Use key.pem and cert.pem of one directory",
            )
        self._private_key = private_key
        self._certificate = certificate
        self._party = party_of(parsed)

    @property
    def party(self) -> Party:
        """Whom the certificate names."""
        return self._party

    @property
    def certificate(self) -> bytes:
        """The certificate, DER."""
        return self._certificate

    def sign(self, label: bytes, payload: bytes) -> SignedMessage:
        """Sign the payload under one of the labels of `secagg.labels`."""
        signature = self._private_key.sign(_framed(label, payload), ec.ECDSA(SHA256()))
        return SignedMessage(payload=payload, signature=signature, certificate=self._certificate)

    def __repr__(self) -> str:
        """Name the party and nothing of the key."""
        return f"Signer({self._party})"


class FollowedSigner(Signer):
    """A `Signer` that is asked for anew for every signature, so that whoever holds this follows it.

    Args:
        newest: returns the one that counts now; always the same party's.
    """

    __slots__ = ("_newest",)

    def __init__(self, newest: Callable[[], Signer]) -> None:
        self._newest = newest

    @property
    def party(self) -> Party:
        """Whom the certificate names."""
        return self._newest().party

    @property
    def certificate(self) -> bytes:
        """The newest certificate, DER."""
        return self._newest().certificate

    def sign(self, label: bytes, payload: bytes) -> SignedMessage:
        """Sign with the newest key; the message carries the certificate of that very key."""
        return self._newest().sign(label, payload)

    def __repr__(self) -> str:
        """Name the party and nothing of the key."""
        return repr(self._newest())


def verify_signed(
    message: SignedMessage,
    label: bytes,
    *,
    trust: TrustRoot,
    at: datetime,
    expect_role: Role,
    expect_name: str | None = None,
) -> Party:
    """Return who signed the message, once certificate, role, name and signature hold.

    Args:
        message: what arrived.
        label: the label that the signature must have been made under.
        trust: the CA and its revocations.
        at: the time that counts, with a time zone.
        expect_role: the role that must have signed.
        expect_name: the name that must have signed; any name of the role when left out.

    Raises:
        CertificateError: the signer's certificate does not hold, or was revoked by that time.
        MessageError: another party signed it, or the signature is not over this payload
            under this label.
    """
    party, key = trust.verify_signer(message.certificate, at=at)
    if party.role is not expect_role or expect_name not in (None, party.name):
        wanted = expect_role if expect_name is None else f"{expect_role}/{expect_name}"
        raise MessageError(f"the message was signed by {party}, and {wanted} must sign it")
    _check_signature(message, label, party, key)
    return party


def _check_signature(message: SignedMessage, label: bytes, party: Party, key: ec.EllipticCurvePublicKey) -> None:
    try:
        if len(message.signature) <= MAX_SIGNATURE_BYTES:
            return key.verify(message.signature, _framed(label, message.payload), ec.ECDSA(SHA256()))
    except InvalidSignature:
        pass
    raise MessageError(f"the signature of {party} does not fit the message")


def _framed(label: bytes, payload: bytes) -> bytes:
    if not is_label(label):
        raise UsageError("a signature label must be 1 to 64 printable ASCII bytes")
    return b"".join((label, b"\x00", struct.pack("<Q", len(payload)), payload))
