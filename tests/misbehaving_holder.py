"""A key holder's process that is honest but where a job's name asks it to lie: ``python -m tests.misbehaving_holder CONFIG``.

In a job that is named ``LIE-by-HOLDERS-NUMBER``, these holders tell that lie; everywhere else they do as any key holder.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from he import ceremony as steps
from secagg import logs
from secagg.errors import NotFoundError
from secagg.ids import Digest, HolderId, JobId, KeyId
from secagg.key_holder import server
from secagg.key_holder.config import load_key_holder_settings
from secagg.key_holder.service import KeyHolderServicer
from secagg.messages.round import Approval, PartialStatement
from secagg.roles.key_holder import ceremony
from secagg.roles.key_holder.events import CeremonyEvent, CommitmentsReceived
from secagg.wire.v1 import key_holder_service_pb2 as wire
from secagg.wire.v1.signed_pb2 import Signed

_LYING_JOB = re.compile(r"(?P<lie>[a-z-]+?)-by-(?P<holders>[a-z-]+)-[0-9]+")
_numbers = count(1)


def lying_job(lie: str, *holders: HolderId) -> JobId:
    """Return a job's name that makes these holders tell a lie."""
    return JobId(f"{lie}-by-{'-'.join(holders)}-{next(_numbers)}")


def lie_asked_for(job: JobId, holder: HolderId) -> str:
    """Return the lie that a holder tells in a job, or nothing."""
    found = _LYING_JOB.fullmatch(job)
    return found["lie"] if found is not None and holder in found["holders"].split("-") else ""


class Lie:
    """An honest answer; a subclass changes one thing of it."""

    def data(self, data: bytes) -> bytes:
        """Return a part of the answer; the statement vouches for what this returns."""
        return data

    def statement(self, statement: PartialStatement) -> PartialStatement:
        """Return what is signed."""
        return statement

    def signed(self, signed: Signed) -> Signed:
        """Return what is sent."""
        return signed


class WrongResidues(Lie):
    """Residues that are well formed and wrong."""

    def data(self, data: bytes) -> bytes:
        return bytes([data[0] ^ 1]) + data[1:]


class AbovePrime(Lie):
    """A residue that no honest holder could send."""

    def data(self, data: bytes) -> bytes:
        return b"\xff\xff\xff\xff" + data[4:]


class TooShort(Lie):
    """An answer that ends too early."""

    def data(self, data: bytes) -> bytes:
        return data[:-4]


class TooLong(Lie):
    """An answer with more bytes than the sum has."""

    def data(self, data: bytes) -> bytes:
        return data + data


class WrongDigest(Lie):
    """An honest answer under a statement that vouches for another one."""

    def statement(self, statement: PartialStatement) -> PartialStatement:
        return replace(statement, answer_digest=Digest(bytes(32)))


class OtherRequest(Lie):
    """An honest answer under a statement for another request."""

    def statement(self, statement: PartialStatement) -> PartialStatement:
        return replace(statement, request_digest=Digest(bytes(32)))


class BrokenSignature(Lie):
    """A statement that it did not sign."""

    def signed(self, signed: Signed) -> Signed:
        payload = bytearray(signed.payload)
        payload[-1] ^= 1
        return Signed(payload=bytes(payload), signature=signed.signature, certificate=signed.certificate)


class Refuses(Lie):
    """It approved, and then will not answer."""

    def data(self, data: bytes) -> bytes:
        raise NotFoundError("this key holder has no share of that key")


class Crashes(Lie):
    """It dies in the midst of its answer."""

    def data(self, data: bytes) -> bytes:
        os.kill(os.getpid(), signal.SIGKILL)
        return data


ANSWERS = {
    "wrong-residues": WrongResidues,
    "above-prime": AbovePrime,
    "too-short": TooShort,
    "too-long": TooLong,
    "wrong-digest": WrongDigest,
    "other-request": OtherRequest,
    "broken-signature": BrokenSignature,
    "refuses": Refuses,
    "crashes": Crashes,
}


class MisbehavingServicer(KeyHolderServicer):
    """Tells the lie that the job of a request asks for."""

    def _lie(self, key_id: bytes) -> str:
        held = self._book.of_key(KeyId(key_id))
        return lie_asked_for(held.key.ceremony.spec.job, self._book.holder)

    async def Decrypt(  # noqa: N802 - named as in proto/
        self, request: wire.DecryptRequest, context: Any
    ) -> AsyncIterator[wire.DecryptResponse]:
        lie = ANSWERS.get(self._lie(request.key_id), Lie)()
        sent = hashlib.sha256()
        async for message in super().Decrypt(request, context):
            if message.WhichOneof("body") == "data":
                data = lie.data(message.data)
                sent.update(data)
                yield wire.DecryptResponse(data=data)
        statement = PartialStatement(
            key_id=KeyId(request.key_id),
            request_digest=Digest(request.request_digest),
            holder=self._book.holder,
            answer_digest=Digest(sent.digest()),
        )
        yield wire.DecryptResponse(statement=lie.signed(await self._sign(lie.statement(statement))))

    async def _sign(self, message: object) -> Signed:
        if isinstance(message, Approval) and self._lie(message.key_id) == "approves-another":
            message = replace(message, request_digest=Digest(bytes(32)))
        return await super()._sign(message)


def _deal_wrong_share(secrets: steps.HolderSecrets, receiver: int) -> steps.Dealing:
    """Deal everybody else a share that is not on the polynomial."""
    dealing = _honest_deal(secrets, receiver)
    if receiver == secrets.holder:
        return dealing
    share = dealing.share.copy()
    share[0, 0] ^= np.uint32(1)
    return replace(dealing, share=share)


def _deal_wrong_smudging_part(secrets: steps.HolderSecrets, receiver: int) -> steps.Dealing:
    """Deal one holder another part of a smudging key than the rest."""
    dealing = _honest_deal(secrets, receiver)
    if receiver != (1 if secrets.holder != 1 else 2):
        return dealing
    subset = next(iter(dealing.smudging_parts))
    return replace(dealing, smudging_parts={**dealing.smudging_parts, subset: bytes(32)})


_honest_deal = steps.deal
_honest_step = ceremony.step
_DEALINGS = {"wrong-share": _deal_wrong_share, "wrong-smudging-part": _deal_wrong_smudging_part}


def _step(state: Any, event: CeremonyEvent) -> ceremony.CeremonyStep:
    """Deal as the job's name asks for; every other step of a ceremony is honest."""
    if not isinstance(event, CommitmentsReceived):
        return _honest_step(state, event)
    with _dealing(lie_asked_for(state.plan.spec.job, state.reader.holder)):
        return _honest_step(state, event)


@contextmanager
def _dealing(lie: str) -> Iterator[None]:
    steps.deal = _DEALINGS.get(lie, _honest_deal)
    try:
        yield
    finally:
        steps.deal = _honest_deal


def main(config: str) -> None:
    settings = load_key_holder_settings(Path(config))
    logs.configure()
    server.KeyHolderServicer = MisbehavingServicer  # type: ignore[misc]
    ceremony.step = _step
    asyncio.run(server.serve(settings))


if __name__ == "__main__":
    main(sys.argv[1])
