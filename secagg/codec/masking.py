"""Rosters, sets of positions and sealed shares of masking rounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise

from secagg.codec.parsing import bounded, parsed, reading
from secagg.codec.signed import authenticate_all, signed_to_wire
from secagg.errors import MessageError
from secagg.identity import TrustRoot
from secagg.ids import DIGEST_BYTES, ClientId, Digest
from secagg.messages.masking import MaskingJoin, MaskingRoster
from secagg.plan import MAX_CLIENTS
from secagg.wire.v1 import masking_pb2, masking_service_pb2

MAX_SEALED_BYTES = 256


def masking_roster_to_wire(roster: MaskingRoster) -> masking_pb2.MaskingRoster:
    """Return the wire's form."""
    return masking_pb2.MaskingRoster(
        plan_digest=roster.plan_digest,
        joins=[signed_to_wire(join.signed) for join in roster.joins],
        neighbours=roster.neighbours,
        threshold=roster.threshold,
        quorum=roster.quorum,
    )


def masking_roster_from_wire(wire: masking_pb2.MaskingRoster, *, trust: TrustRoot, at: datetime) -> MaskingRoster:
    """Return ours, with the signature of every join verified."""
    if len(wire.plan_digest) != DIGEST_BYTES:
        raise MessageError("the roster's plan digest has not 32 bytes")
    bounded(wire.joins, "joins", MAX_CLIENTS)
    return MaskingRoster(
        plan_digest=Digest(wire.plan_digest),
        joins=authenticate_all(wire.joins, MaskingJoin, trust=trust, at=at),
        neighbours=wire.neighbours,
        threshold=wire.threshold,
        quorum=wire.quorum,
    )


def masking_roster_to_bytes(roster: MaskingRoster) -> bytes:
    """Return the wire's bytes, for a store."""
    return masking_roster_to_wire(roster).SerializeToString(deterministic=True)


def masking_roster_from_bytes(data: bytes, *, trust: TrustRoot, at: datetime) -> MaskingRoster:
    """Read what :func:`masking_roster_to_bytes` wrote; ``at``: the time at which the signatures must hold."""
    wire = parsed(masking_pb2.MaskingRoster, data, "roster")
    return masking_roster_from_wire(wire, trust=trust, at=at)


def positions_of(clients: Iterable[ClientId], roster: Sequence[ClientId]) -> list[int]:
    """Return the positions of clients in a roster, ascending."""
    places = {client: place for place, client in enumerate(roster)}
    return sorted(places[client] for client in clients)


def clients_at(positions: Sequence[int], roster: Sequence[ClientId]) -> tuple[ClientId, ...]:
    """Return the clients at positions from the wire, which must ascend and stay within the roster."""
    places = bounded(positions, "positions", len(roster))
    ordered = all(first < second for first, second in pairwise(places))
    if not ordered or any(place >= len(roster) for place in places):
        raise MessageError("positions in a roster must ascend, and stay within it")
    return tuple(roster[place] for place in places)


def sealed_shares_to_wire(
    sealed: Mapping[ClientId, bytes], roster: Sequence[ClientId]
) -> list[masking_service_pb2.SealedShare]:
    """Return the wire's form of what was sealed to one client, by sender."""
    places = {client: place for place, client in enumerate(roster)}
    return [masking_service_pb2.SealedShare(sender=places[one], sealed=data) for one, data in sorted(sealed.items())]


def sealed_shares_from_wire(
    wire: Sequence[masking_service_pb2.SealedShare], roster: Sequence[ClientId]
) -> dict[ClientId, bytes]:
    """Return ours; whether a share opens is the machine's question."""
    with reading("sealed shares"):
        senders = clients_at([one.sender for one in wire], roster)
        if any(len(one.sealed) > MAX_SEALED_BYTES for one in wire):
            raise MessageError(f"a sealed share has more than {MAX_SEALED_BYTES} bytes")
        return {sender: one.sealed for sender, one in zip(senders, wire, strict=True)}
