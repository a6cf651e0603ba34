"""Key holders in a simulation: their real machines behind their real book and store."""

from __future__ import annotations

import asyncio
import atexit
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import create_engine, delete, insert
from sqlalchemy.pool import StaticPool

from coordinator.rounds.calls import ApprovalRequest, ContributorPart, DecryptionRequest
from secagg import transcript
from secagg.errors import FaultyClientError, FaultyKeyHolderError
from secagg.ids import ClientId, Digest, HolderId, KeyId
from secagg.key_holder.book import RoundBook
from secagg.key_holder.ceremonies import Ceremonies
from secagg.key_holder.held_round import Limits
from secagg.key_holder.openings import Openings
from secagg.key_holder.schema import METADATA, STORE
from secagg.key_holder.store import HolderStore, StoredShare
from secagg.key_holder.sums import SumFiles
from secagg.key_holder.vault import ShareVault
from secagg.messages.ceremony import (
    Verdict,
)
from secagg.messages.round import Approval, FrozenRoster, PartialStatement, RosterSeal, Upload
from secagg.messages.signed import Authenticated
from secagg.plan import CeremonyPlan, RoundPlan
from secagg.policy import HolderPolicy
from secagg.roles.key_holder.events import (
    CeremonyEvent,
    Reply,
)
from secagg.roles.key_holder.opening import DecryptionAsked, RosterOffered
from secagg.roles.key_holder.request import Request, digest_of
from tests.simulation.holder_lies import HolderFate, Liar
from tests.simulation.network import Process
from tests.simulation.round_material import EPOCH_SECONDS, holder_party, read_all, roster_as_read, signed_by

LIMITS = Limits(max_rounds=4, max_sums=2, max_round_seconds=3600.0)
_VAULT = ShareVault(AESGCM.generate_key(256))
_MEMORY = Path("/dev/shm")  # where there is one, so that nothing waits for a disk
_SUMS = tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None)
atexit.register(_SUMS.cleanup)


@dataclass
class Witness:
    """What the honest holders did, for the invariants.

    Attributes:
        contributors: whom each request counts that one of them approved of.
        answered: the requests that were answered, by key and holder.
        said: the payloads that were signed, by holder, kind and ceremony.
        accused: the clients and holders that were called faulty.
    """

    contributors: dict[Digest, tuple[ClientId, ...]] = field(default_factory=dict)
    answered: dict[tuple[KeyId, HolderId], set[Digest]] = field(default_factory=dict)
    said: dict[tuple[HolderId, type, bytes], set[bytes]] = field(default_factory=dict)
    accused: set[str] = field(default_factory=set)


@cache
def _disk(holder: HolderId) -> HolderStore:
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    METADATA.create_all(engine)
    return HolderStore(engine, SumFiles(Path(_SUMS.name) / holder))


def empty_store(holder: HolderId) -> HolderStore:
    """Return the holder's one database in memory, with nothing in it, nor in its sums: making it takes longer than a round."""
    store = _disk(holder)
    with store._writing() as connection:
        for table in METADATA.sorted_tables:
            connection.execute(delete(table))
        connection.execute(insert(STORE).values(store_id=bytes(16), generation=0))
    store.sums.sweep(())
    return store


class HolderNode:
    """One key holder; its store outlives its process."""

    def __init__(self, holder: HolderId, fate: HolderFate, witness: Witness, defects: list[str]) -> None:
        self.holder = holder
        self.fate = fate
        self.witness = witness
        self.process = Process(f"key holder {holder}", defects)
        self._liar = Liar(fate)
        self.store = empty_store(holder)

    @property
    def honest(self) -> bool:
        return self.fate in (HolderFate.HONEST, HolderFate.RESTARTS)

    async def start(self) -> None:
        """Begin, or begin again, with what lies in the store."""
        self.book = RoundBook(
            holder=self.holder,
            policy=HolderPolicy(),
            limits=LIMITS,
            store=self.store,
            vault=_VAULT,
            executor=cast("Executor", None),  # the simulation's loop has its own way
            clock=lambda: EPOCH_SECONDS + asyncio.get_running_loop().time(),
        )
        self._ceremonies, self._openings = Ceremonies(self.book), Openings(self.book)
        await self.book.restore()
        self.process.running = self.fate is not HolderFate.SILENT
        self._expiring = asyncio.ensure_future(self.book.expire_for_ever())

    def crash(self) -> None:
        self.process.crash()
        self._expiring.cancel()

    def keep(self, shares: Iterable[StoredShare]) -> None:
        """Put shares into the store, as if they had been made a moment ago."""
        for share in shares:
            life = share.expires_at - share.begun_at
            self.store.save_share(replace(share, begun_at=EPOCH_SECONDS, expires_at=EPOCH_SECONDS + life))

    # what the process does when it is called: read, step, sign

    async def begin(self, plan: CeremonyPlan) -> tuple[Authenticated[Any], Reply]:
        return self._say(await self._ceremonies.begin(plan), plan.digest)

    async def step(self, ceremony: Digest, event: CeremonyEvent) -> tuple[Authenticated[Any], Reply]:
        with self._heard():
            return self._say(await self._ceremonies.step(ceremony, event), ceremony)

    @contextmanager
    def _heard(self) -> Iterator[None]:
        """Take note of whom an honest holder calls faulty."""
        try:
            yield
        except FaultyKeyHolderError as error:
            self._accuse(error.holder_id)
            raise
        except FaultyClientError as error:
            self._accuse(error.client_id)
            raise

    def _accuse(self, *names: str) -> None:
        if self.honest:
            self.witness.accused.update(names)

    def _say(self, reply: Reply, ceremony: Digest) -> tuple[Authenticated[Any], Reply]:
        held = self.book.find(ceremony)
        if held is not None:
            reply = self._liar.bend(reply, held)
        if isinstance(reply.message, Verdict):
            self._accuse(*reply.message.liars)
        spoken = signed_by(holder_party(self.holder), reply.message)
        self.witness.said.setdefault((self.holder, type(reply.message), ceremony), set()).add(spoken.signed.payload)
        return spoken, reply

    async def seal(self, plan: RoundPlan, shown: FrozenRoster) -> Authenticated[RosterSeal]:
        roster, key_id = roster_as_read(shown), plan.ckks.key_id
        if self.fate is HolderFate.COLLUDES:
            return self._signed(RosterSeal(key_id=key_id, roster_digest=digest_of(roster), holder=self.holder))
        seal = self._signed(await self._openings.seal(RosterOffered(plan=plan, roster=roster)))
        self.witness.said.setdefault((self.holder, RosterSeal, key_id), set()).add(seal.signed.payload)
        return seal

    async def approve(self, shown: ApprovalRequest, parts: Sequence[ContributorPart]) -> Authenticated[Approval]:
        request = Request(
            plan=shown.plan,
            roster=roster_as_read(shown.roster),
            uploads=read_all(shown.uploads, Upload),
        )
        if self.fate is HolderFate.COLLUDES:
            return self._signed(self._asked_for(request))
        with self._heard():
            approval = await self._openings.approve(request, _streamed(parts))
        clients = tuple(one.message.client for one in request.uploads)
        self.witness.contributors[approval.request_digest] = clients
        signed = self._signed(self._liar.bend_approval(approval))
        self.witness.said.setdefault((self.holder, Approval, approval.key_id), set()).add(signed.signed.payload)
        return signed

    def _asked_for(self, request: Request) -> Approval:
        """Approve of whatever is shown, as who is in league with the coordinator does."""
        roster = transcript.roster_digest(request.plan.digest, [one.message for one in request.roster.joins])
        digest = transcript.request_digest(request.plan.digest, roster, [one.message for one in request.uploads])
        return Approval(key_id=request.plan.ckks.key_id, request_digest=digest, holder=self.holder)

    async def decrypt(self, request: DecryptionRequest) -> list[bytes | Authenticated[PartialStatement]]:
        event = DecryptionAsked(
            key_id=request.key_id,
            request_digest=request.request_digest,
            approvals=read_all(request.approvals, Approval),
        )
        parts = [part async for part in self._openings.decrypt(event)]
        if self.honest:
            key = (event.key_id, self.holder)
            self.witness.answered.setdefault(key, set()).add(event.request_digest)
        return [part if isinstance(part, bytes) else self._signed(part) for part in self._liar.bend_answer(parts)]

    def _signed(self, message: Any) -> Authenticated[Any]:
        return signed_by(holder_party(self.holder), message)


async def _streamed(parts: Iterable[ContributorPart]) -> AsyncIterator[ContributorPart]:
    for part in parts:
        yield part
