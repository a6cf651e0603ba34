"""Signed messages: which label, role and name belong to which kind, in one table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, TypeVar

from google.protobuf.message import Message

from secagg import labels
from secagg.codec.parsing import MAX_PARTIES, bounded, parsed, reading
from secagg.errors import MessageError
from secagg.identity import Role, SignedMessage, Signer, TrustRoot, verify_signed
from secagg.ids import DIGEST_BYTES
from secagg.messages.ceremony import Dealing, Hello, KeyCommitment, KeyStatement, SeedOpening, Trial, Verdict
from secagg.messages.masking import Confirmation, MaskedUpload, MaskingJoin, Shares, Unmasking
from secagg.messages.retention import PurgedRound
from secagg.messages.round import Approval, Join, PartialStatement, Result, RosterSeal, Upload
from secagg.messages.signed import Authenticated
from secagg.wire.v1 import ceremony_pb2, masking_pb2, retention_pb2, round_pb2, signed_pb2

MessageT = TypeVar("MessageT")

MAX_COMPLAINT = 1000
_DIGESTS = frozenset(
    {
        "ceremony_digest",
        "context",
        "key_id",
        "public_key_digest",
        "plan_digest",
        "roster_digest",
        "request_digest",
        "parameters_digest",
        "root_c0",
        "root_c1",
        "mean_digest",
        "answer_digest",
        "commitment",
        "seed_commitment",
        "nonce",
        "seed",
        "hpke_public_key",
        "sealed_digests",
        "mask_key",
        "share_key",
        "sharers_digest",
        "vector_digest",
        "survivors_digest",
        "result_digest",
        "contributions_digest",
        "holders_digest",
        "audit_digest",
    }
)
"""Fields of exactly 32 bytes: digests, nonces, seeds and X25519 keys; in a list, each entry."""
_PERHAPS_ABSENT = frozenset(
    {
        ("Trial", "answer_digest"),
        ("PurgedRound", "plan_digest"),
        ("PurgedRound", "roster_digest"),
        ("PurgedRound", "result_digest"),
        ("PurgedRound", "mean_digest"),
    }
)
"""Those of them that may be empty, with their messages."""


@dataclass(frozen=True, kw_only=True)
class _Kind:
    wire: type[Message]
    label: bytes
    role: Role
    name: str
    most_bytes: int = 1024


_HOLDER, _CLIENT = Role.KEY_HOLDER, Role.CLIENT
_FOR_EACH_NEIGHBOUR = 256 * 1024
"""Of 1,500 neighbours at the most, some 100 bytes for each."""
_KINDS: dict[type, _Kind] = {
    Hello: _Kind(wire=ceremony_pb2.Hello, label=labels.HELLO, role=_HOLDER, name="holder"),
    KeyCommitment: _Kind(wire=ceremony_pb2.KeyCommitment, label=labels.KEY_COMMITMENT, role=_HOLDER, name="holder"),
    Dealing: _Kind(wire=ceremony_pb2.Dealing, label=labels.DEALING, role=_HOLDER, name="holder", most_bytes=512 * 1024),
    Trial: _Kind(wire=ceremony_pb2.Trial, label=labels.TRIAL, role=_HOLDER, name="holder", most_bytes=8 * 1024),
    KeyStatement: _Kind(wire=ceremony_pb2.KeyStatement, label=labels.KEY_STATEMENT, role=_HOLDER, name="holder"),
    SeedOpening: _Kind(wire=ceremony_pb2.SeedOpening, label=labels.SEED_OPENING, role=_HOLDER, name="holder"),
    Verdict: _Kind(wire=ceremony_pb2.Verdict, label=labels.VERDICT, role=_HOLDER, name="holder"),
    Join: _Kind(wire=round_pb2.Join, label=labels.JOIN, role=_CLIENT, name="client"),
    RosterSeal: _Kind(wire=round_pb2.RosterSeal, label=labels.ROSTER_SEAL, role=_HOLDER, name="holder"),
    Upload: _Kind(wire=round_pb2.Upload, label=labels.UPLOAD, role=_CLIENT, name="client"),
    Approval: _Kind(wire=round_pb2.Approval, label=labels.APPROVAL, role=_HOLDER, name="holder"),
    PartialStatement: _Kind(wire=round_pb2.PartialStatement, label=labels.PARTIAL, role=_HOLDER, name="holder"),
    MaskingJoin: _Kind(wire=masking_pb2.MaskingJoin, label=labels.MASKING_JOIN, role=_CLIENT, name="client"),
    Shares: _Kind(
        wire=masking_pb2.Shares, label=labels.SHARES, role=_CLIENT, name="client", most_bytes=_FOR_EACH_NEIGHBOUR
    ),
    MaskedUpload: _Kind(wire=masking_pb2.MaskedUpload, label=labels.MASKED_UPLOAD, role=_CLIENT, name="client"),
    Confirmation: _Kind(wire=masking_pb2.Confirmation, label=labels.CONFIRMATION, role=_CLIENT, name="client"),
    Unmasking: _Kind(
        wire=masking_pb2.Unmasking, label=labels.UNMASKING, role=_CLIENT, name="client", most_bytes=_FOR_EACH_NEIGHBOUR
    ),
    Result: _Kind(wire=round_pb2.Result, label=labels.RESULT, role=Role.COORDINATOR, name="", most_bytes=1024 * 1024),
    PurgedRound: _Kind(wire=retention_pb2.PurgedRound, label=labels.PURGE_RECEIPT, role=Role.COORDINATOR, name=""),
}


def sign(message: object, signer: Signer) -> SignedMessage:
    """Return a message as the bytes that its signer signs."""
    kind = _KINDS[type(message)]
    values = {field.name: getattr(message, field.name) for field in fields(message)}  # type: ignore[arg-type]
    return signer.sign(kind.label, kind.wire(**values).SerializeToString(deterministic=True))


def authenticate(
    signed: SignedMessage, message_type: type[MessageT], *, trust: TrustRoot, at: datetime
) -> Authenticated[MessageT]:
    """Return the message, once certificate, role and signature hold and the name in it is the signer's.

    Raises:
        CertificateError: the certificate does not hold.
        MessageError: the signature, the signer's role or name, or the content does not.
    """
    kind = _KINDS[message_type]
    # Fields that nobody knows travel with the signed bytes: one padded join, and the roster is too long for everybody.
    if len(signed.payload) > kind.most_bytes:
        raise MessageError(
            f"{message_type.__name__} has {len(signed.payload)} bytes, at most {kind.most_bytes} are due"
        )
    party = verify_signed(signed, kind.label, trust=trust, at=at, expect_role=kind.role)
    message = _payload(message_type, kind, signed.payload)
    if kind.name and getattr(message, kind.name) != party.name:
        raise MessageError(f"{party} signed a message in the name of {getattr(message, kind.name)!r}")
    return Authenticated(message=message, party=party, signed=signed)


def authenticate_all(
    signed: Iterable[signed_pb2.Signed], message_type: type[MessageT], *, trust: TrustRoot, at: datetime
) -> tuple[Authenticated[MessageT], ...]:
    """Return every message of a list from the wire."""
    messages = bounded(tuple(signed), "signed messages", MAX_PARTIES)
    return tuple(authenticate(signed_from_wire(one), message_type, trust=trust, at=at) for one in messages)


def unverified(signed: SignedMessage, message_type: type[MessageT]) -> MessageT:
    """Return what a message says, whoever signed it: for what stands in one's own store and was authenticated before it got there.

    Raises:
        MessageError: the content is not well formed.
    """
    return _payload(message_type, _KINDS[message_type], signed.payload)


def _payload(message_type: type[MessageT], kind: _Kind, payload: bytes) -> MessageT:
    what = message_type.__name__
    wire = parsed(kind.wire, payload, what)
    with reading(what):
        return message_type(**{field.name: _value(wire, what, field.name) for field in fields(message_type)})  # type: ignore[arg-type]


def _value(wire: Message, what: str, name: str) -> Any:
    value = getattr(wire, name)
    if isinstance(value, (str, bytes, int, float)):
        _check(what, name, value)
        return value
    values = tuple(bounded(value, name))
    for one in values:
        _check(what, name, one)
    return values


def _check(what: str, name: str, value: object) -> None:
    absent = value == b"" and (what, name) in _PERHAPS_ABSENT
    if name in _DIGESTS and isinstance(value, bytes) and len(value) != DIGEST_BYTES and not absent:
        raise MessageError(f"{what}.{name} has {len(value)} bytes, not {DIGEST_BYTES}")
    if isinstance(value, str) and len(value) > MAX_COMPLAINT:
        raise MessageError(f"{what}.{name} has more than {MAX_COMPLAINT} characters")


def signed_to_wire(signed: SignedMessage) -> signed_pb2.Signed:
    """Return the wire's form."""
    return signed_pb2.Signed(payload=signed.payload, signature=signed.signature, certificate=signed.certificate)


def signed_from_wire(wire: signed_pb2.Signed) -> SignedMessage:
    """Return ours; it is verified by :func:`authenticate`."""
    return SignedMessage(payload=wire.payload, signature=wire.signature, certificate=wire.certificate)


def signed_to_bytes(signed: SignedMessage) -> bytes:
    """Return the wire's bytes, for a store."""
    return signed_to_wire(signed).SerializeToString(deterministic=True)


def signed_from_bytes(data: bytes) -> SignedMessage:
    """Read what :func:`signed_to_bytes` wrote."""
    return signed_from_wire(parsed(signed_pb2.Signed, data, "signed message"))
