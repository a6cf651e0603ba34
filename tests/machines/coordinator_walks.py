"""Rounds that go their way by a seed: every step that the coordinator's machines take in them, for both protocols."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from secagg.errors import SecAggError
from secagg.messages.round import HolderVerdict
from secagg.roles.coordinator import rules
from secagg.roles.coordinator.effects import Effect
from secagg.roles.coordinator.events import (
    AnswerReceived,
    ApprovalReceived,
    CancelRequested,
    CeremonyBegun,
    ConfirmationReceived,
    DeadlinePassed,
    Event,
    GraceOver,
    HolderLost,
    HolderSilent,
    JoinReceived,
    KeyCertified,
    KeyFailed,
    OpeningFailed,
    SealReceived,
    SharesReceived,
    SumOpened,
    SumUnmasked,
    UnmaskingFailed,
    UnmaskingReceived,
    UploadRefused,
    UploadVerified,
    VectorVerified,
)
from secagg.roles.coordinator.masking.rules import MASKING
from secagg.roles.coordinator.masking.state import MaskingRoundState
from secagg.roles.coordinator.state import CkksRoundState, RoundState
from tests import masking_material as masking
from tests.machines import coordinator_events as ckks
from tests.machines import masking_events

WALKS, STEPS = 80, 400


@dataclass(frozen=True, kw_only=True)
class Taken:
    """One step that changed a round. ``before``, ``event``: None for its beginning."""

    before: RoundState | None
    event: Event | None
    after: RoundState
    effects: tuple[Effect, ...]


@dataclass(frozen=True, kw_only=True)
class _Draw:
    """One kind of event: how often it comes, beside the others that may come now, and how it is made."""

    kind: type
    often: float
    make: Callable[[Any, random.Random], Event]


@cache
def walks(*, masks: bool) -> tuple[tuple[Taken, ...], ...]:
    """Return the steps of many rounds, each to its end or as far as it came."""
    return tuple(tuple(_walk(random.Random(f"{seed}/{masks}"), masks=masks)) for seed in range(WALKS))


def _walk(draws: random.Random, *, masks: bool) -> Iterator[Taken]:
    machine, drawn = (MASKING, MASKING_EVENTS) if masks else (rules.CKKS, CKKS_EVENTS)
    first = rules.begin(masking.SPEC if masks else ckks.SPEC, masking.ROUND, nonce=masking.NONCE)
    state: RoundState = first.state
    yield Taken(before=None, event=None, after=state, effects=first.effects)
    for _ in range(STEPS):
        legal = [one for one in drawn if (state.phase, one.kind) in machine.moves]
        (chosen,) = draws.choices(legal, [one.often for one in legal])
        event = chosen.make(state, draws)
        try:
            step = rules.step(state, event)
        except SecAggError:
            continue
        if step.effects:
            yield Taken(before=state, event=event, after=step.state, effects=step.effects)
        state = step.state
        if state.phase.ended:
            return


def bare(state: RoundState) -> tuple[RoundState, bytes]:
    """Return a state as it can be compared: a graph is an array, which has no equality of its own."""
    if not isinstance(state, MaskingRoundState) or state.house is None:
        return state, b""
    return replace(state, house=None), state.house.graph.tobytes()


def _opening_failed(state: CkksRoundState, draws: random.Random) -> Event:
    usable = tuple(sorted(state.usable))
    liars = usable[:1] if draws.random() < 0.5 else ()
    return OpeningFailed(reason="no", can_wait=True, liars=liars, suspects=() if liars else usable)


def _lost(_state: CkksRoundState, draws: random.Random) -> Event:
    verdict = draws.choice([one for one in HolderVerdict if one is not HolderVerdict.OK])
    return HolderLost(holder=draws.choice(ckks.HOLDERS), verdict=verdict, reason="lost")


def _answered(_state: CkksRoundState, draws: random.Random) -> Event:
    holder = draws.choice(ckks.HOLDERS)
    return AnswerReceived(holder=holder, blob=f"answers/{holder}")


_ALWAYS = (
    _Draw(kind=DeadlinePassed, often=0.3, make=lambda state, _: DeadlinePassed(phase=state.phase)),
    _Draw(kind=CancelRequested, often=0.03, make=lambda *_: CancelRequested(reason="stopped")),
    _Draw(kind=GraceOver, often=1, make=lambda *_: GraceOver()),
)
CKKS_EVENTS = (
    *_ALWAYS,
    _Draw(
        kind=CeremonyBegun,
        often=5,
        make=lambda state, _: CeremonyBegun(attempt=state.attempt + 1, holders=ckks.HOLDERS),
    ),
    _Draw(kind=KeyCertified, often=5, make=lambda *_: ckks.certified()),
    _Draw(kind=KeyFailed, often=0.1, make=lambda *_: KeyFailed(reason="no key", holders=())),
    _Draw(kind=JoinReceived, often=10, make=lambda _, draws: ckks.join(draws.choice(ckks.CLIENTS))),
    _Draw(kind=SealReceived, often=10, make=lambda state, draws: ckks.seal(state, draws.choice(ckks.HOLDERS))),
    _Draw(kind=UploadVerified, often=10, make=lambda state, draws: ckks.upload(state, draws.choice(ckks.CLIENTS))),
    _Draw(
        kind=UploadRefused,
        often=0.5,
        make=lambda _, draws: UploadRefused(client=draws.choice(ckks.CLIENTS), reason="garbage"),
    ),
    _Draw(kind=ApprovalReceived, often=10, make=lambda state, draws: ckks.approval(state, draws.choice(ckks.HOLDERS))),
    _Draw(
        kind=HolderSilent,
        often=0.7,
        make=lambda _, draws: HolderSilent(holder=draws.choice(ckks.HOLDERS), reason="silence"),
    ),
    _Draw(kind=HolderLost, often=0.4, make=_lost),
    _Draw(kind=AnswerReceived, often=10, make=_answered),
    _Draw(kind=SumOpened, often=1, make=lambda *_: ckks.OPENED),
    _Draw(kind=OpeningFailed, often=2, make=_opening_failed),
)
MASKING_EVENTS = (
    *_ALWAYS,
    _Draw(kind=JoinReceived, often=10, make=lambda _, draws: masking_events.join(draws.choice(masking.CLIENTS))),
    _Draw(
        kind=SharesReceived,
        often=10,
        make=lambda state, draws: masking_events.shares(state, draws.choice(masking.CLIENTS)),
    ),
    _Draw(
        kind=VectorVerified,
        often=10,
        make=lambda state, draws: masking_events.vector(state, draws.choice(masking.CLIENTS)),
    ),
    _Draw(
        kind=UploadRefused,
        often=0.3,
        make=lambda _, draws: UploadRefused(client=draws.choice(masking.CLIENTS), reason="garbage"),
    ),
    _Draw(
        kind=ConfirmationReceived,
        often=10,
        make=lambda state, draws: masking_events.confirmation(state, draws.choice(masking.CLIENTS)),
    ),
    _Draw(
        kind=UnmaskingReceived,
        often=10,
        make=lambda state, draws: masking_events.unmasking(state, draws.choice(masking.CLIENTS)),
    ),
    _Draw(
        kind=SumUnmasked,
        often=1,
        make=lambda *_: SumUnmasked(total_weight=3.0, mean_digest=masking.MEAN, mean_bytes=200),
    ),
    _Draw(
        kind=UnmaskingFailed,
        often=2,
        make=lambda state, _: UnmaskingFailed(reason="no", can_wait=True, used=len(state.unmaskings)),
    ),
)
