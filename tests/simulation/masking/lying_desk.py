"""A coordinator that lies in a masking round: it keeps to no machine, thanks everybody for everything, and shows what it likes.

It knows the corrupt clients' certificates and signs in their names whatever helps. Clients see it by the times below.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Iterable
from dataclasses import replace

from secagg import transcript
from secagg.errors import PlanError
from secagg.ids import ClientId, Digest
from secagg.masking.agreement import public_key
from secagg.masking.planner import corrupt_count, plan_numbers
from secagg.messages.masking import Confirmation, MaskedUpload, MaskingJoin, MaskingRoster, Shares, Unmasking
from secagg.messages.round import Result
from secagg.messages.signed import Authenticated
from secagg.plan import MaskingJob, RoundPlan
from secagg.roles.client.checks import mean_bytes
from secagg.roles.neighbourhood import Neighbourhood
from secagg.signing import SignedMessage
from tests.simulation.masking.deceit import Heard, Lie
from tests.simulation.masking.desk import WAIT_SECONDS, Ended, Missed, SealedTo
from tests.simulation.masking.parties import COORDINATOR, party, read, signed
from tests.simulation.network import Process

ROSTER_AT, SHARERS_AT, SURVIVORS_AT, CONFIRMATIONS_AT, RESULT_AT = 60.0, 120.0, 210.0, 270.0, 330.0
STRANGER = ClientId("stranger")


class LyingDesk:
    """See `Lie`. ``before``: what was heard in another round of the same clients."""

    def __init__(
        self,
        plan: RoundPlan,
        seed: int,
        defects: list[str],
        lies: frozenset[Lie],
        corrupt: frozenset[ClientId],
        before: Heard,
    ) -> None:
        self.process = Process("the lying coordinator", defects)
        self.plan = plan
        self.heard = Heard()
        self._seed, self._lies, self._corrupt, self._before = seed, lies, corrupt, before
        self._shown: dict[ClientId, tuple[MaskingRoster, Digest]] = {}
        self._sharers: dict[ClientId, tuple[ClientId, ...]] = {}
        self._survivors: dict[ClientId, tuple[ClientId, ...]] = {}
        self._calls = 0

    # choices that a seed decides, the same whenever they are asked for

    def _draws(self, *what: object) -> random.Random:
        return random.Random("/".join(map(str, (self._seed, "lies", *what))))

    def _side(self, client: ClientId, what: str) -> int:
        """Divide clients into two sides, as unevenly as the seed likes."""
        return int(self._draws(what, client).random() < self._draws(what, "cut").uniform(0.15, 0.85))

    @property
    def victim(self) -> ClientId:
        honest = sorted(set(self.heard.joins) - self._corrupt) or sorted(self.heard.joins)
        return self._draws("victim").choice(honest)

    def _without_others(self, client: ClientId, clients: Iterable[ClientId], what: str) -> tuple[ClientId, ...]:
        """Leave out some of the other side: whoever is on the same side is shown the same."""
        side, ordered = self._side(client, what), sorted(clients)
        across = [one for one in ordered if one not in self._corrupt and self._side(one, what) != side]
        draws = self._draws(what, "left out", side)
        left_out = set(draws.sample(across, draws.randint(0, len(across))))
        return tuple(one for one in ordered if one not in left_out)

    async def _comes(self, at: float) -> bool:
        left = at - asyncio.get_running_loop().time()
        await asyncio.sleep(max(0.0, min(left, WAIT_SECONDS)))
        return left <= WAIT_SECONDS

    # what clients call

    async def closed(self) -> None:
        """It never ends by itself."""

    async def offer(self, client: ClientId) -> RoundPlan | Ended | None:
        if asyncio.get_running_loop().time() >= ROSTER_AT:
            return Ended(reason="over")
        if Lie.TINY_PLAN not in self._lies:
            return self.plan
        tiny = MaskingJob(corrupt_fraction=0.0, dropout_fraction=0.0, precision=0.01)
        return replace(self.plan, spec=replace(self.plan.spec, protocol=tiny))

    async def join(self, message: SignedMessage) -> None:
        join = read(message, MaskingJoin)
        self.heard.joins[join.message.client] = join

    async def roster(self, client: ClientId) -> MaskingRoster | Ended | None:
        if not await self._comes(ROSTER_AT):
            return None
        if client not in self._shown:
            try:
                roster = self._roster_for(client)
            except PlanError as error:
                return Ended(reason=error.reason)
            self._shown[client] = roster, transcript.masking_roster_digest(roster)
        return self._shown[client][0]

    async def shares(self, message: SignedMessage) -> None:
        shares = read(message, Shares)
        self.heard.shares[shares.message.client] = shares

    async def sharers(self, client: ClientId) -> SealedTo | Ended | None:
        if not await self._comes(SHARERS_AT):
            return None
        if client not in self._shown:
            return Ended(reason="over")
        self._sharers.setdefault(client, self._sharers_for(client))
        return self._sharers[client], self._sealed_for(client)

    async def upload(self, message: SignedMessage, vector: bytes) -> None:
        upload = read(message, MaskedUpload)
        self.heard.uploads[upload.message.client] = upload

    async def survivors(self, client: ClientId) -> tuple[ClientId, ...] | Ended | None:
        if not await self._comes(SURVIVORS_AT):
            return None
        self._survivors[client] = self._survivors_for(client)
        return self._survivors[client]

    async def confirm(self, message: SignedMessage) -> None:
        confirmation = read(message, Confirmation)
        self.heard.confirmations[confirmation.message.client] = confirmation

    async def confirmations(self, client: ClientId) -> tuple[SignedMessage, ...] | Ended | Missed | None:
        if not await self._comes(CONFIRMATIONS_AT):
            return None
        shown = self._confirmations_for(client)
        return self._forged(client, shown) if Lie.FORGES_CONFIRMATIONS in self._lies else shown

    async def unmask(self, message: SignedMessage) -> None:
        unmasking = read(message, Unmasking)
        self.heard.unmaskings[unmasking.message.client] = unmasking

    async def result(self, client: ClientId) -> tuple[SignedMessage, bytes] | Ended | None:
        if not await self._comes(RESULT_AT):
            return None
        contributors = self._survivors.get(client, ())
        if Lie.BENDS_RESULT in self._lies:
            contributors = tuple(one for one in contributors if one != self.victim)
        mean = bytes(mean_bytes(self.plan))
        result = Result(
            plan_digest=self.plan.digest,
            roster_digest=self._shown[client][1],
            contributors=contributors,
            total_weight=self.plan.spec.min_total_weight,
            mean_digest=Digest(hashlib.sha256(mean).digest()),
            mean_bytes=len(mean),
        )
        return signed(result, COORDINATOR), mean

    # rosters

    def _roster_for(self, client: ClientId) -> MaskingRoster:
        joins = dict(self.heard.joins)
        if Lie.SPLITS_ROSTER in self._lies:
            joins = {one: joins[one] for one in self._without_others(client, joins, "roster")}
        if Lie.TWO_FACES in self._lies and self._side(client, "faces"):
            joins |= {one: self._other_face(joins[one]) for one in self._corrupt & set(joins)}
        if Lie.LEAVES_OUT in self._lies and client == self.victim:
            del joins[client]
        if Lie.SWAPS_KEY in self._lies and client != self.victim and self.victim in joins:
            joins[self.victim] = self._swapped(joins[self.victim])
        joins = self._bearable(joins)
        if Lie.COPIES_KEY in self._lies:
            joins |= {one: self._copied(joins[one]) for one in sorted(self._corrupt & set(joins))[:1]}
        if Lie.REPLAYS_JOIN in self._lies and self.victim in self._before.joins:
            joins[self.victim] = self._before.joins[self.victim]
        return self._numbered(joins)

    def _bearable(
        self, joins: dict[ClientId, Authenticated[MaskingJoin]]
    ) -> dict[ClientId, Authenticated[MaskingJoin]]:
        """Leave out corrupt clients until they are no more than a roster of this length bears: the plan promises nothing beyond."""
        left = dict(joins)
        for one in sorted(self._corrupt & set(left)):
            if len(self._corrupt & set(left)) > corrupt_count(len(left), self.plan.spec.masking.corrupt_fraction):
                del left[one]
        return left

    def _numbered(self, joins: dict[ClientId, Authenticated[MaskingJoin]]) -> MaskingRoster:
        spec, masking = self.plan.spec, self.plan.spec.masking
        numbers = plan_numbers(
            len(joins),
            corrupt_fraction=masking.corrupt_fraction,
            dropout_fraction=masking.dropout_fraction,
            min_contributors=spec.min_contributors,
        )
        k, t, q = numbers.neighbours, numbers.threshold, numbers.quorum
        if Lie.WEAK_NUMBERS in self._lies:
            k, t, q = self._draws("numbers").choice([(k, t - 1, q), (k, t, q - 1), (2, 2, q), (k - 1, t, q), (k, 1, 1)])
        ordered = tuple(joins[one] for one in sorted(joins))
        return MaskingRoster(plan_digest=self.plan.digest, joins=ordered, neighbours=k, threshold=t, quorum=q)

    def _sign(self, join: MaskingJoin) -> Authenticated[MaskingJoin]:
        return read(signed(join, party(join.client)), MaskingJoin)

    def _other_face(self, join: Authenticated[MaskingJoin]) -> Authenticated[MaskingJoin]:
        draws = self._draws("face", join.message.client)
        return self._sign(replace(join.message, share_key=public_key(draws.randbytes(32))))

    def _swapped(self, join: Authenticated[MaskingJoin]) -> Authenticated[MaskingJoin]:
        """Sign as the victim with what is no certificate of this deployment."""
        own = replace(join.message, mask_key=public_key(self._draws("swap").randbytes(32)))
        return replace(join, message=own, signed=signed(own, party(join.message.client), "another"))

    def _copied(self, join: Authenticated[MaskingJoin]) -> Authenticated[MaskingJoin]:
        return self._sign(replace(join.message, mask_key=self.heard.joins[self.victim].message.mask_key))

    # sharers and survivors

    def _sharers_for(self, client: ClientId) -> tuple[ClientId, ...]:
        digest = self._shown[client][1]
        present = [one for one, said in self.heard.shares.items() if said.message.roster_digest == digest]
        if Lie.GHOSTS in self._lies:
            present += self._ghosts(client)
        if Lie.SPLITS_SHARERS in self._lies:
            return self._without_others(client, present, "sharers")
        if Lie.ISOLATES in self._lies and client == self.victim:
            return self._isolating(client, present)
        return tuple(sorted(present))

    def _ghosts(self, client: ClientId) -> list[ClientId]:
        """Return who is in this client's roster, and has shared its secrets in another."""
        roster, digest = self._shown[client]
        shared = self.heard.shares
        return [one for one in roster.clients if one in shared and shared[one].message.roster_digest != digest]

    def _isolating(self, client: ClientId, present: list[ClientId]) -> tuple[ClientId, ...]:
        """Show the corrupt clients, and as few others as the client lets pass."""
        few = self._lost_with_victim(client, present)
        return tuple(sorted({client, *few, *(self._corrupt & set(present))}))

    def _lost_with_victim(self, client: ClientId, present: Iterable[ClientId]) -> set[ClientId]:
        """Return the victim's only partners: as many as may drop out for a quorum to be left."""
        honest = [one for one in sorted(present) if one not in self._corrupt and one != self.victim]
        roster = self._shown[client][0]
        draws, most = self._draws("isolates"), len(roster.joins) - roster.quorum
        return set(draws.sample(honest, min(len(honest), draws.randint(most // 2, most))))

    def _sealed_for(self, client: ClientId) -> dict[ClientId, bytes]:
        roster, digest = self._shown[client]
        shares = {one: said.message for one, said in self.heard.shares.items() if said.message.roster_digest == digest}
        house = Neighbourhood.of(
            digest, roster.clients, degree=roster.neighbours, threshold=roster.threshold, quorum=roster.quorum
        )
        sealed = {}
        for sender in set(shares) & set(house.neighbours_of(client)):
            place = house.neighbours_of(sender).index(client)
            sealed[sender] = shares[sender].sealed[place]
        return self._mixed(client, sealed) if Lie.MIXES_SEALED in self._lies else sealed

    def _mixed(self, client: ClientId, sealed: dict[ClientId, bytes]) -> dict[ClientId, bytes]:
        draws, senders = self._draws("mixes", client), sorted(sealed)
        for sender in senders:
            old = self._before.shares.get(sender)
            others = [b"", sealed[draws.choice(senders)], *(old.message.sealed[:1] if old else ())]
            if draws.random() < 0.4:
                sealed[sender] = draws.choice(others)
        return sealed

    def _survivors_for(self, client: ClientId) -> tuple[ClientId, ...]:
        sharers = self._sharers.get(client, ())
        ghosts = self._ghosts(client) if Lie.GHOSTS in self._lies else ()
        present = tuple(one for one in sharers if one in self.heard.uploads or one in ghosts)
        if Lie.SPLITS_SURVIVORS in self._lies:
            present = self._without_others(client, present, "survivors")
        if Lie.ISOLATES in self._lies:
            gone = self._lost_with_victim(client, self.heard.shares) - {client}
            present = tuple(one for one in present if one not in gone)
        if Lie.EACH_ITS_OWN in self._lies or Lie.ASKS_TWICE in self._lies:
            self._calls += Lie.ASKS_TWICE in self._lies
            draws = self._draws("own", client, self._calls)
            others = [one for one in present if one != client]
            gone = set(draws.sample(others, min(len(others), draws.randint(1, 3))))
            present = tuple(one for one in present if one not in gone)
        lost = Lie.LATE_VECTOR in self._lies or (
            Lie.DROPPED_AND_ALIVE in self._lies and bool(self._side(client, "alive"))
        )
        return tuple(one for one in present if not lost or one != self.victim or one == client)

    # confirmations

    def _confirmations_for(self, client: ClientId) -> tuple[SignedMessage, ...]:
        """Return all that fit: what was heard, and what the corrupt clients are glad to sign."""
        own = self.heard.confirmations[client].message
        fitting = {
            one: said.signed
            for one, said in self.heard.confirmations.items()
            if said.message == replace(own, client=one) and one not in self._corrupt
        }
        for one in self._corrupt & set(self._survivors.get(client, ())):
            fitting[one] = signed(replace(own, client=one), party(one))
        return tuple(fitting[one] for one in sorted(fitting) if one in self._survivors.get(client, ()))

    def _forged(self, client: ClientId, shown: tuple[SignedMessage, ...]) -> tuple[SignedMessage, ...]:
        draws, own = self._draws("forges", client), self.heard.confirmations[client].message
        shown_to = self._survivors.get(client, ())
        others = [said.signed for one, said in self.heard.confirmations.items() if one in shown_to]
        old = [said.signed for said in self._before.confirmations.values()]
        missing = [one for one in shown_to if one not in self.heard.confirmations]
        forged = [signed(replace(own, client=one), party(one), "another") for one in missing or [self.victim]]
        stranger = signed(replace(own, client=STRANGER), party(STRANGER))
        kinds = [list(shown), others, [*shown, *old[:1]], [*shown, stranger], [*shown, *forged], [*shown[:1], *shown]]
        return tuple(draws.choice(kinds))
