"""What a key holder may answer with, and that silence is asked about once more."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from coordinator.rounds import asking
from coordinator.rounds.asking import fetch_answer
from coordinator.rounds.calls import DecryptionRequest
from coordinator.store.blobs import DirectoryBlobStore
from he.ciphertext import half_chunk_bytes
from he.parameters import preset
from secagg.errors import FaultyKeyHolderError, UnreachableError
from secagg.ids import Digest, HolderId, KeyId
from secagg.messages.round import PartialStatement
from tests.holder_material import signed

PARAMETERS = preset("ckks-4096", values=5000, max_clients=4, holders=5, threshold=3)
ANSWER = bytes(range(256)) * (PARAMETERS.chunks * half_chunk_bytes(PARAMETERS) // 256)
NORTH = HolderId("north")
REQUEST = DecryptionRequest(key_id=KeyId(b"k" * 32), request_digest=Digest(b"r" * 32), approvals=())


def statement(answer: bytes = ANSWER, **changes: Any) -> Any:
    fields = {"key_id": REQUEST.key_id, "request_digest": REQUEST.request_digest, "holder": NORTH}
    digest = Digest(hashlib.sha256(answer).digest())
    return signed(PartialStatement(**{**fields, "answer_digest": digest, **changes}))


@dataclass
class Says:
    """A holder that answers with these messages; an error among them is raised, and the next call goes on after it."""

    messages: list[Any]
    holder: HolderId = NORTH
    silences: list[UnreachableError] = field(default_factory=list)

    async def decrypt(self, _request: DecryptionRequest, *, timeout_seconds: float) -> AsyncIterator[Any]:
        while self.messages:
            message = self.messages.pop(0)
            if isinstance(message, Exception):
                raise message
            yield message

    async def silent(self, error: UnreachableError) -> None:
        self.silences.append(error)


async def fetched(says: Says, directory: Path) -> bytes:
    blobs = DirectoryBlobStore(directory)
    await fetch_answer(
        says,  # type: ignore[arg-type]
        blobs,
        REQUEST,
        parameters=PARAMETERS,
        blob="answers/north",
        timeout_seconds=1.0,
        on_silence=says.silent,
    )
    return blobs.read("answers/north", 0, len(ANSWER) + 1)


async def test_an_answer_in_parts(tmp_path: Path) -> None:
    assert await fetched(Says([ANSWER[:1000], ANSWER[1000:], statement()]), tmp_path) == ANSWER


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [ANSWER],
        [statement()],
        [ANSWER[:-1], statement(ANSWER[:-1])],
        [ANSWER + b"x", statement(ANSWER + b"x")],
        [statement(), ANSWER],
        [ANSWER, statement(), b"x"],
        [ANSWER, statement(b"another")],
        [ANSWER, statement(key_id=KeyId(bytes(32)))],
        [ANSWER, statement(request_digest=Digest(bytes(32)))],
    ],
    ids=["nothing", "unsigned", "empty", "short", "long", "order", "more", "digest", "key", "request"],
)
async def test_anything_else_is_the_holders_fault(tmp_path: Path, messages: list[Any]) -> None:
    with pytest.raises(FaultyKeyHolderError) as caught:
        await fetched(Says(list(messages)), tmp_path)
    assert caught.value.holder_id == NORTH


async def test_an_answer_that_breaks_off_is_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_PAUSE_SECONDS", 0.0)
    says = Says([ANSWER[:1000], UnreachableError("key holder north"), ANSWER, statement()])
    assert await fetched(says, tmp_path) == ANSWER
    assert len(says.silences) == 1


async def test_silence_twice_is_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_PAUSE_SECONDS", 0.0)
    with pytest.raises(UnreachableError):
        await fetched(Says([UnreachableError("key holder north"), UnreachableError("key holder north")]), tmp_path)
