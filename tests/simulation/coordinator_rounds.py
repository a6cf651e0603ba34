"""One round in simulated time: the coordinator's machine, key holders' machines and clients, over a network that does its worst.

Everything follows from the seed, so that a failure is a number.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha256
from typing import Any

from secagg.errors import SecAggError
from secagg.ids import ClientId, Digest, HolderId
from secagg.messages.round import HolderVerdict, Phase
from secagg.policy import HolderPolicy
from secagg.roles.coordinator import rules
from secagg.roles.coordinator.effects import (
    AskApprovals,
    AskDecryption,
    AskSeals,
    Effect,
    OpenSum,
    SetDeadline,
    SetGrace,
)
from secagg.roles.coordinator.events import (
    AnswerReceived,
    DeadlinePassed,
    Event,
    GraceOver,
    HolderLost,
    OpeningFailed,
    SumOpened,
    UploadRefused,
)
from secagg.roles.coordinator.state import CkksRoundState
from secagg.roles.key_holder import opening
from secagg.roles.key_holder.opening import ApprovalAsked, DecryptionAsked, OpeningState, RosterOffered
from secagg.roles.key_holder.request import ComputedHalf, Request
from tests.machines.coordinator_events import (
    CEREMONY,
    CLIENTS,
    HOLDERS,
    KEY_ID,
    PLAN,
    SPEC,
    approval,
    certified,
    digest,
    join,
    seal,
    upload,
)

AGAIN_SECONDS = 20.0
CALL_SECONDS = 60.0
THRESHOLD = PLAN.ckks.group.threshold


class ClientFate(Enum):
    """What becomes of a client."""

    HONEST = "honest"
    NEVER_JOINS = "never joins"
    VANISHES = "vanishes after the roster is frozen"
    OPENS_WRONGLY = "does not open its commitment"
    SENDS_GARBAGE = "sends bytes that it did not sign"


class HolderFate(Enum):
    """What becomes of a key holder."""

    HONEST = "honest"
    DEAD = "never answers"
    DIES_AFTER_APPROVAL = "approves and is gone"
    LIES = "answers with garbage"


@dataclass(frozen=True, kw_only=True)
class Weather:
    """What the network does to a message."""

    drop: float = 0.0
    duplicate: float = 0.0
    longest_delay_seconds: float = 1.0


@dataclass
class Simulation:
    """A round under a seed."""

    seed: int
    weather: Weather
    clients: dict[ClientId, ClientFate]
    holders: dict[HolderId, HolderFate]
    state: CkksRoundState = field(init=False)
    now: float = 0.0
    opened: list[tuple[HolderId, ...]] = field(default_factory=list)
    approved: dict[HolderId, set[Digest]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._machines = {
            holder: OpeningState(holder=holder, policy=HolderPolicy(), ceremony=CEREMONY, key_id=KEY_ID)
            for holder in self.holders
        }
        first = rules.begin(SPEC, PLAN.round, nonce=bytes(32))
        self.state = first.state
        self._carry_out(first.effects)

    def run(self) -> CkksRoundState:
        """Run to the end of the round, or until nothing happens any more."""
        self._later(self.random.uniform(0, 5), lambda: self._happens(certified()))
        for client in self.clients:
            self._later(self.random.uniform(0, 10), lambda client=client: self._client(client))  # type: ignore[misc]
        while self._queue and not self.state.phase.ended:
            self.now, _, action = heapq.heappop(self._queue)
            action()
        return self.state

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + seconds, next(self._numbers), action))

    def _send(self, action: Callable[[], None]) -> bool:
        """Deliver late, twice or never; say whether it will arrive."""
        weather = self.weather
        copies = 1 + (self.random.random() < weather.duplicate)
        arrives = False
        for _ in range(copies):
            if self.random.random() >= weather.drop:
                arrives = True
                self._later(self.random.uniform(0, weather.longest_delay_seconds), action)
        return arrives

    def _happens(self, event: Event) -> None:
        before = self.state
        try:
            step = rules.step(before, event)
        except SecAggError as error:
            assert self.state is before
            if isinstance(event, AnswerReceived):
                return
            self._refused(event, error)
            return
        self.state = step.state
        self._carry_out(step.effects)

    def _refused(self, event: Event, error: SecAggError) -> None:
        """Nothing honest is refused for what it is, only for when it comes."""
        assert type(error).__name__ in {"WrongPhaseError", "LateError", "FaultyClientError"}, (event, error)

    def _carry_out(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            match effect:
                case SetDeadline():
                    self._later(effect.seconds, lambda phase=effect.phase: self._happens(DeadlinePassed(phase=phase)))  # type: ignore[misc]
                case SetGrace():
                    self._later(effect.seconds, lambda: self._happens(GraceOver()))
                case AskSeals() | AskApprovals() | AskDecryption():
                    for holder in effect.holders:
                        self._ask(holder, effect)
                case OpenSum():
                    self.opened.append(effect.holders)
                    self._later(self.random.uniform(0, 1), lambda asked=effect: self._open(asked.holders))  # type: ignore[misc]
                case _:
                    pass

    def _ask(self, holder: HolderId, effect: AskSeals | AskApprovals | AskDecryption) -> None:
        match effect:
            case AskSeals():
                self._call(holder, lambda: self._seal(holder), only_in=Phase.FROZEN)
            case AskApprovals():
                self._call(holder, lambda: self._approve(holder))
            case AskDecryption():
                self._call(holder, lambda: self._answer(holder, effect))

    def _client(self, client: ClientId) -> None:
        """What a client does over and over until the round does not need it any more."""
        fate, phase = self.clients[client], self.state.phase
        if fate is ClientFate.NEVER_JOINS or phase.ended:
            return
        if phase is Phase.OPEN:
            self._send(lambda: self._happens(join(client)))
        elif phase is Phase.UPLOADING and client in self.state.joins and client not in self.state.uploads:
            self._upload(client, fate)
        self._later(AGAIN_SECONDS, lambda: self._client(client))

    def _upload(self, client: ClientId, fate: ClientFate) -> None:
        match fate:
            case ClientFate.HONEST:
                event: Event = upload(self.state, client)
            case ClientFate.OPENS_WRONGLY:
                event = upload(self.state, client, nonce=digest("another"))
            case ClientFate.SENDS_GARBAGE:
                event = UploadRefused(client=client, reason="the root is not the one that it signed")
            case _:
                return
        self._send(lambda: self._happens(event))

    def _call(self, holder: HolderId, serve: Callable[[], Event | None], *, only_in: Phase | None = None) -> None:
        """A call either way over the network; silence is noticed when its deadline is over, and told in its phase."""

        def served() -> None:
            answer = serve()
            if answer is not None:
                self._send(lambda: answered(answer))

        def answered(event: Event) -> None:
            silent[0] = False
            self._happens(event)

        def given_up() -> None:
            if silent[0] and only_in in (None, self.state.phase):
                self._happens(HolderLost(holder=holder, verdict=HolderVerdict.UNREACHABLE, reason="it did not answer"))

        silent = [True]
        self._send(served)
        self._later(CALL_SECONDS, given_up)

    def _seal(self, holder: HolderId) -> Event | None:
        if self.holders[holder] is HolderFate.DEAD:
            return None
        step = opening.step(self._machines[holder], RosterOffered(plan=PLAN, roster=self.state.roster))
        self._machines[holder] = step.state
        assert step.state.roster is not None
        return seal(self.state, holder, roster_digest=step.state.roster)

    def _approve(self, holder: HolderId) -> Event | None:
        if self.holders[holder] is HolderFate.DEAD:
            return None
        request = Request(plan=PLAN, roster=self.state.roster, uploads=self.state.contributions)
        computed = tuple(
            ComputedHalf(root=one.message.root_c1, chunk_digests=sha256(one.message.client.encode()).digest())
            for one in request.uploads
        )
        step = opening.step(self._machines[holder], ApprovalAsked(request=request, computed=computed))
        self._machines[holder] = step.state
        assert step.state.approved is not None
        self.approved.setdefault(holder, set()).add(step.state.approved)
        return approval(self.state, holder, request_digest=step.state.approved)

    def _answer(self, holder: HolderId, asked: AskDecryption) -> Event | None:
        if self.holders[holder] is HolderFate.DIES_AFTER_APPROVAL:
            return None
        event: Any = DecryptionAsked(key_id=KEY_ID, request_digest=self.state.request_digest, approvals=asked.approvals)  # type: ignore[arg-type]
        self._machines[holder] = opening.step(self._machines[holder], event).state
        return AnswerReceived(holder=holder)

    def _open(self, holders: tuple[HolderId, ...]) -> None:
        """What recovery finds: t + 1 answers show that one is wrong, t + 2 which."""
        liars = tuple(holder for holder in holders if self.holders[holder] is HolderFate.LIES)
        reach = (len(holders) - THRESHOLD) // 2
        if liars and len(liars) > reach:
            self._happens(OpeningFailed(reason="they do not agree", can_wait=True, suspects=holders))
        elif len(holders) - len(liars) < THRESHOLD:
            self._happens(OpeningFailed(reason="too few are left", can_wait=True, liars=liars))
        else:
            self._happens(SumOpened(total_weight=3.0, mean_digest=digest("mean"), mean_bytes=40, liars=liars))


def everybody_honest() -> tuple[dict[ClientId, ClientFate], dict[HolderId, HolderFate]]:
    """Return the fates of a round in which nobody does wrong."""
    return dict.fromkeys(CLIENTS, ClientFate.HONEST), dict.fromkeys(HOLDERS, HolderFate.HONEST)
