"""A client's own steps in a ckks round: the ciphertext, the commitment to it, and the upload (docs/protocol.md, section 5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from secagg import codec
from secagg.client.calls import reading_answer
from secagg.client.encryption import encrypt
from secagg.client.exchange import Exchange, now, stretched
from secagg.client.spool import CiphertextSpool
from secagg.client.transfer import Uploader
from secagg.client.uploads import HalvesUpload
from secagg.errors import LateError, UsageError, WrongPhaseError
from secagg.messages.round import Phase
from secagg.roles.client.events import (
    BuildKey,
    Event,
    RosterFrozen,
    SendJoin,
    SendUpload,
    UploadAccepted,
)
from secagg.wire.v1 import client_service_pb2 as pb

CkksEffect: TypeAlias = BuildKey | SendJoin | SendUpload


class CkksSteps:
    """Carries out what the machine asks for in a ckks round.

    Args:
        exchange: with the coordinator.
        make_spool: makes the file space that ciphertexts wait in.
        engine: what encrypts, as the client's policy has it.
    """

    def __init__(self, exchange: Exchange, make_spool: Callable[[], CiphertextSpool], engine: str) -> None:
        self._exchange = exchange
        self._make_spool = make_spool
        self._engine = engine
        self._spool: CiphertextSpool | None = None

    async def carry_out(self, effect: CkksEffect) -> Event:
        """Do it, and return what came of it."""
        match effect:
            case BuildKey():
                return await self._encrypt(effect)
            case SendJoin():
                deadlines = self._exchange.deadlines
                # The key holders seal the roster before it is shown.
                limit = stretched(deadlines.open_seconds, deadlines.approving_seconds)
                return await self._exchange.join(effect.join, limit, field="roster", read=self._read_roster)
            case SendUpload():
                return await self._upload(effect)

    def close(self) -> None:
        """Leave no ciphertext behind."""
        if self._spool is not None:
            self._spool.close()

    async def _encrypt(self, effect: BuildKey) -> Event:
        self.close()
        self._spool = self._make_spool()
        exchange, wanted = self._exchange, self._exchange.wanted

        def report(done: int, total: int) -> None:
            exchange.total = total
            exchange.report(Phase.OPEN, done)

        encrypted = await encrypt(wanted.update, wanted.weight, effect, self._spool, report, engine=self._engine)
        exchange.clipped = encrypted.clipped
        return encrypted.event

    def _read_roster(self, answer: pb.WaitForRosterResponse) -> RosterFrozen:
        with reading_answer():
            trust = self._exchange.identity.trust
            return RosterFrozen(roster=codec.roster_from_wire(answer.roster, trust=trust, at=now()))

    async def _upload(self, effect: SendUpload) -> Event:
        exchange = self._exchange
        if self._spool is None:
            raise UsageError("nothing was encrypted yet")
        limit = stretched(exchange.deadlines.uploading_seconds)
        upload = HalvesUpload(
            coordinator=exchange.coordinator,
            job=exchange.spec.job,
            round=exchange.number,
            signed=await exchange.signed(effect.upload),
            parameters=exchange.round_plan.parameters,
            spool=self._spool,
        )
        exchange.total = sum(upload.sizes)
        exchange.report(Phase.UPLOADING, 0)
        uploader = Uploader(exchange.coordinator, upload, lambda sent: exchange.report(Phase.UPLOADING, sent))
        try:
            await uploader.run(limit)
        except (LateError, WrongPhaseError) as error:
            return await exchange.aborted(error)
        self.close()
        return UploadAccepted()
