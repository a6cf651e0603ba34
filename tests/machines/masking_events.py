"""Events for the coordinator's machine of a masking round: messages that fit the state as it is, with or without a twist."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256
from typing import Any

from secagg.ids import ClientId, Digest
from secagg.masking.shamir import SEALED_PAIR_BYTES
from secagg.messages.masking import Confirmation, MaskedUpload, Shares, Unmasking
from secagg.roles.coordinator.events import (
    ConfirmationReceived,
    JoinReceived,
    SharesReceived,
    UnmaskingReceived,
    VectorVerified,
)
from secagg.roles.coordinator.masking.state import MaskingRoundState
from tests.masking_material import CLIENTS, OTHER, PLAN, SPEC, Round, authenticated, finished

SHARE = bytes(range(36))


def digest(*words: str) -> Digest:
    return Digest(sha256("/".join(words).encode()).digest())


def roster_digest(state: MaskingRoundState) -> Digest:
    return state.roster_digest or OTHER


def sealed_pair(client: ClientId, place: int) -> bytes:
    """Return what has the length of a sealed pair of shares."""
    return (digest("sealed", client, str(place)) * 3)[:SEALED_PAIR_BYTES]


def join(client: ClientId, **changes: object) -> JoinReceived:
    """Return the join of one of the clients, or that of a stranger who uses somebody's keys."""
    known = client if client in CLIENTS else CLIENTS[0]
    return finished().join(known, **{"client": client, **changes})


def shares(state: MaskingRoundState, client: ClientId, **changes: object) -> SharesReceived:
    message = Shares(
        plan_digest=PLAN.digest,
        roster_digest=roster_digest(state),
        client=client,
        sealed=tuple(sealed_pair(client, place) for place in range(state.degree)),
    )
    return SharesReceived(shares=authenticated(replace(message, **changes)))  # type: ignore[arg-type]


def vector(state: MaskingRoundState, client: ClientId, **changes: object) -> VectorVerified:
    message = MaskedUpload(
        plan_digest=PLAN.digest,
        roster_digest=roster_digest(state),
        client=client,
        sharers_digest=state.sharers_digest or OTHER,
        vector_digest=digest("vector", client),
        vector_bytes=SPEC.masking_parameters.vector_bytes,
    )
    return VectorVerified(upload=authenticated(replace(message, **changes)))  # type: ignore[arg-type]


def confirmation(state: MaskingRoundState, client: ClientId, **changes: object) -> ConfirmationReceived:
    message = Confirmation(
        plan_digest=PLAN.digest,
        roster_digest=roster_digest(state),
        client=client,
        survivors_digest=state.survivors_digest or OTHER,
    )
    return ConfirmationReceived(confirmation=authenticated(replace(message, **changes)))  # type: ignore[arg-type]


def unmasking(state: MaskingRoundState, client: ClientId, **changes: Any) -> UnmaskingReceived:
    message = Unmasking(
        plan_digest=PLAN.digest,
        roster_digest=roster_digest(state),
        client=client,
        survivors_digest=state.survivors_digest or OTHER,
        shares=(SHARE,) * state.degree,
    )
    return UnmaskingReceived(unmasking=authenticated(replace(message, **changes)))


# rounds in which not everybody does everything; nobody has to hold real shares


def joined(clients: Iterable[ClientId] = CLIENTS) -> Round:
    round = Round()
    for client in clients:
        round.happens(join(client))
    return round


def shared(clients: Iterable[ClientId] = CLIENTS) -> Round:
    round = joined()
    for client in clients:
        round.happens(shares(round.state, client))
    return round


def uploaded(clients: Iterable[ClientId] = CLIENTS) -> Round:
    round = shared()
    for client in clients:
        round.happens(vector(round.state, client))
    return round


def confirmed(clients: Iterable[ClientId] = CLIENTS) -> Round:
    round = uploaded()
    for client in clients:
        round.happens(confirmation(round.state, client))
    return round
