"""KEYING and OPEN: the key arrives, clients commit, the roster is fixed (``docs/protocol.md``, 5.1 to 5.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from secagg.errors import ConflictError, FaultyClientError, FaultyKeyHolderError, LateError, PlanError
from secagg.ids import DIGEST_BYTES, ClientId
from secagg.messages.masking import MaskingJoin
from secagg.messages.round import Join, Phase
from secagg.roles.coordinator.effects import AskSeals, Audit, SetDeadline
from secagg.roles.coordinator.ending import CkksStep, RoundStep, abort, stored, unchanged
from secagg.roles.coordinator.events import (
    CeremonyBegun,
    DeadlinePassed,
    JoinReceived,
    KeyCertified,
    KeyFailed,
)
from secagg.roles.coordinator.state import CkksRoundState, StateT, digest_of_roster, named


def ceremony_begun(state: CkksRoundState, event: CeremonyBegun) -> CkksStep:
    """Take note of an attempt before any holder hears of it: a number is never used twice."""
    if event.attempt <= state.attempt:
        return unchanged(state)
    return stored(replace(state, attempt=event.attempt, invited=event.holders))


def key_certified(state: CkksRoundState, event: KeyCertified) -> CkksStep:
    """Open the round under its key."""
    _check_key(state, event)
    plan = event.plan
    statuses = {status.holder: status for status in event.holders}
    opened = replace(state, phase=Phase.OPEN, key=event.bundle, plan=plan, holders={**state.holders, **statuses})
    details = {"key_id": plan.ckks.key_id.hex(), "holders": named(plan.ckks.group.holders)}
    deadline = SetDeadline(phase=Phase.OPEN, seconds=plan.spec.deadlines.open_seconds)
    return stored(opened, deadline, Audit(event="key-certified", details=details))


def _check_key(state: CkksRoundState, event: KeyCertified) -> None:
    plan, ceremony = event.plan, event.bundle.plan
    if (plan.spec, plan.round) != (state.spec, state.round) or (ceremony.spec, ceremony.round) != (
        state.spec,
        state.round,
    ):
        raise PlanError("the key was made for another job or round")
    if plan.ckks.group != ceremony.group:
        raise PlanError("the key was made by other holders than the plan names")
    statements = [statement.message for statement in event.bundle.statements]
    if tuple(statement.holder for statement in statements) != ceremony.group.holders:
        raise PlanError("the key does not carry the statement of every holder, in their order")
    for statement in statements:
        if (statement.key_id, statement.ceremony_digest) != (plan.ckks.key_id, ceremony.digest):
            raise FaultyKeyHolderError(statement.holder, "it vouched for another key")


def key_failed(state: CkksRoundState, event: KeyFailed) -> CkksStep:
    """End the round: without a key there is nothing to join."""
    statuses = {status.holder: status for status in event.holders}
    return abort(replace(state, holders={**state.holders, **statuses}), event.reason, event.have, event.need)


def key_deadline(state: CkksRoundState, event: DeadlinePassed) -> CkksStep:
    """End the round when no key was made in time."""
    if event.phase is not Phase.KEYING:
        return unchanged(state)
    seconds = state.spec.deadlines.keying_seconds
    return abort(state, f"the key holders did not make a key within {seconds:g} s")


def join_received(state: CkksRoundState, event: JoinReceived) -> CkksStep:
    """Enter a client with its commitment; the last place taken freezes the roster."""
    return enter(state, event, check=_check_join, freeze=_freeze)


def enter(
    state: StateT,
    event: JoinReceived,
    *,
    check: Callable[[StateT, Any], None],
    freeze: Callable[[StateT], RoundStep[StateT]],
) -> RoundStep[StateT]:
    """Enter a client whose join passes the protocol's check, once; the last place taken freezes the roster."""
    join = event.join.message
    known = state.joins.get(join.client)
    if known is not None:
        return _repeated(state, known.message, join)
    check(state, join)
    joined = replace(state, joins={**state.joins, join.client: event.join})
    return freeze(joined) if len(joined.joins) == state.spec.max_clients else stored(joined)


def _repeated(state: StateT, known: Join | MaskingJoin, join: Join | MaskingJoin) -> RoundStep[StateT]:
    if known != join:
        raise ConflictError(f"client {join.client} has joined with another commitment")
    return unchanged(state)


def _check_join(state: CkksRoundState, join: Join) -> None:
    if join.plan_digest != state.certified.digest:
        raise FaultyClientError(join.client, "its join is for another plan")
    if len(join.commitment) != DIGEST_BYTES:
        raise FaultyClientError(join.client, f"its commitment must have {DIGEST_BYTES} bytes")
    if any(other.message.commitment == join.commitment for other in state.joins.values()):
        raise FaultyClientError(join.client, "its commitment is a copy of another client's")


def join_late(state: StateT, event: JoinReceived) -> RoundStep[StateT]:
    """Refuse a client after the roster was frozen; one that is in it may ask again."""
    join = event.join.message
    known = state.joins.get(join.client)
    if known is not None:
        return _repeated(state, known.message, join)
    raise LateError(f"the roster of round {state.round} is frozen, client {join.client} is not in it")


def open_deadline(state: CkksRoundState, event: DeadlinePassed) -> CkksStep:
    """Freeze the roster when enough clients joined in time."""
    return close_roster(state, event, freeze=_freeze)


def close_roster(
    state: StateT, event: DeadlinePassed, *, freeze: Callable[[StateT], RoundStep[StateT]]
) -> RoundStep[StateT]:
    """Freeze the roster at the deadline, or end the round with too few."""
    if event.phase is not Phase.OPEN:
        return unchanged(state)
    have, need = len(state.joins), state.spec.min_contributors
    if have < need:
        present = named(state.joins) or "nobody"
        return abort(state, f"too few clients joined in time: {present}", have, need)
    return freeze(state)


def _freeze(state: CkksRoundState) -> CkksStep:
    frozen = replace(state, phase=Phase.FROZEN, roster_digest=digest_of_roster(state))
    audit = Audit(event="roster-frozen", details={"clients": len(frozen.joins), "roster": _hex(frozen)})
    deadline = SetDeadline(phase=Phase.FROZEN, seconds=state.spec.deadlines.approving_seconds)
    return stored(frozen, deadline, AskSeals(roster=frozen.roster, holders=frozen.group.holders), audit)


def _hex(state: CkksRoundState) -> str:
    return b"".join(filter(None, (state.roster_digest,))).hex()


def commitment_of(state: CkksRoundState, client: ClientId) -> bytes:
    """Return the commitment in the frozen roster; :class:`FaultyClientError` when the client is not in it."""
    join = state.joins.get(client)
    if join is None:
        raise FaultyClientError(client, "it is not in the frozen roster")
    return join.message.commitment
