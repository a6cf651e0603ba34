"""Alice's machine of a masking round in every phase, and what an honest coordinator shows her."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any

from secagg.ids import ClientId
from secagg.messages.masking import MaskingRoster
from secagg.messages.round import Result
from secagg.messages.signed import Authenticated
from secagg.roles.client import rules as client_rules
from secagg.roles.client.checks import mean_bytes
from secagg.roles.client.events import Event, PlanOffered, ResultPublished, RoundEnded
from secagg.roles.client.masking.events import (
    ConfirmationsShown,
    MaskingRosterFrozen,
    SecretsDrawn,
    SurvivorsShown,
    UnmaskingAccepted,
    VectorAccepted,
)
from secagg.roles.client.state import ClientPhase, ClientState
from tests.masking_material import (
    ALICE,
    CLIENTS,
    COORDINATOR,
    MEAN,
    OTHER,
    PLAN,
    SIGNED,
    Round,
    begun,
    finished,
    master_seed,
    vector_masked,
)


def published(round: Round, **changes: object) -> ResultPublished:
    """Return the result of a round of all clients; changes go into the signed message."""
    message = Result(
        plan_digest=round.plan.digest,
        roster_digest=round.state.roster_digest or OTHER,
        contributors=round.clients,
        total_weight=3.0,
        mean_digest=MEAN,
        mean_bytes=mean_bytes(round.plan),
    )
    result = Authenticated(message=replace(message, **changes), party=COORDINATOR, signed=SIGNED)  # type: ignore[arg-type]
    return ResultPublished(result=result, mean_digest=MEAN, mean_bytes=mean_bytes(round.plan))


def roster_of(clients: Iterable[ClientId] = CLIENTS, **changes: object) -> MaskingRoster:
    """Return the roster of some clients, with the numbers of all seven."""
    full = finished().state.roster
    joins = tuple(one for one in full.joins if one.message.client in set(clients))
    return replace(full, **{"joins": joins, **changes})  # type: ignore[arg-type]


def shown(phase: ClientPhase) -> Event:
    """Return what an honest coordinator shows alice in a phase."""
    done = finished()
    events: dict[ClientPhase, Any] = {
        ClientPhase.OFFERED: lambda: PlanOffered(plan=PLAN, bundle=None),
        ClientPhase.PLANNED: lambda: SecretsDrawn(master_seed=master_seed(ALICE)),
        ClientPhase.KEYS_SHOWN: lambda: MaskingRosterFrozen(roster=done.state.roster),
        ClientPhase.SHARING: lambda: done.shares_shown(ALICE),
        ClientPhase.MASKING: lambda: vector_masked(done.vectors[ALICE]),
        ClientPhase.VECTOR_SENT: VectorAccepted,
        ClientPhase.VECTOR_COUNTED: lambda: SurvivorsShown(survivors=CLIENTS),
        ClientPhase.CONFIRMING: lambda: ConfirmationsShown(confirmations=done.confirmations()),
        ClientPhase.REVEALED: UnmaskingAccepted,
        ClientPhase.AWAITING_SUM: lambda: published(done),
    }
    event: Event = events[phase]()
    return event


@cache
def state_in(phase: ClientPhase) -> ClientState:
    """Return alice's state in a phase, reached by legal moves."""
    if phase is ClientPhase.FAILED:
        return client_rules.step(state_in(ClientPhase.KEYS_SHOWN), RoundEnded(reason="too few clients")).state
    state = begun()
    while state.phase is not phase:
        state = client_rules.step(state, shown(state.phase)).state
    return state
