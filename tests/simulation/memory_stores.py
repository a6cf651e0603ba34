"""What outlives a coordinator's process in a simulation: its two stores, in memory."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import BinaryIO

from coordinator.contracts import AnsweredRequest, EventRecord, KeptEvent, Lease, RequestRecord, RoundMove, RoundRecord
from secagg.errors import ConflictError, NotFoundError, UnknownRoundError, UsageError


@dataclass
class MemoryBlobs:
    """Blobs that lie in memory (`coordinator.contracts.BlobStore`)."""

    blobs: dict[str, bytes] = field(default_factory=dict)

    def write(self, name: str, parts: Iterable[bytes]) -> int:
        self.blobs[name] = b"".join(parts)
        return len(self.blobs[name])

    def append(self, name: str, offset: int, data: bytes | memoryview) -> int:
        known, new = self.blobs.get(name, b""), bytes(data)
        if offset > len(known):
            raise UsageError(f"{name} has a gap before {offset}")
        old = known[offset : offset + len(new)]
        if old != new[: len(old)]:
            raise ConflictError(f"{name} holds other bytes at {offset}")
        self.blobs[name] = known + new[len(old) :]
        return len(self.blobs[name])

    def sync(self, name: str) -> None:
        """Memory needs none."""

    def size(self, name: str) -> int:
        return len(self.blobs.get(name, b""))

    def read(self, name: str, offset: int, length: int) -> bytes:
        return self._of(name)[offset : offset + length]

    def open(self, name: str) -> BinaryIO:
        return io.BytesIO(self._of(name))

    def _of(self, name: str) -> bytes:
        if name not in self.blobs:
            raise NotFoundError(f"there is no blob {name}")
        return self.blobs[name]

    def names(self, prefix: str) -> list[str]:
        return sorted(name for name in self.blobs if not prefix or name == prefix or name.startswith(f"{prefix}/"))

    def keep_only(self, prefix: str, name: str) -> None:
        for one in self.names(prefix):
            if one != name:
                del self.blobs[one]

    def delete_prefix(self, prefix: str) -> None:
        for name in self.names(prefix):
            del self.blobs[name]


@dataclass
class MemoryRounds:
    """What one round asks of a `coordinator.contracts.RoundStore`, in memory: each call is done whole, or not at all."""

    record: RoundRecord | None = None
    kept: list[KeptEvent] = field(default_factory=list)
    audits: list[EventRecord] = field(default_factory=list)
    answers: dict[tuple[str, str], AnsweredRequest] = field(default_factory=dict)
    closed: bool = False

    def open_round(self, move: RoundMove, lease: Lease | None = None) -> None:
        if self.record is not None:
            raise ConflictError("the round was opened before")
        self._replace(move)

    def advance_round(self, move: RoundMove, lease: Lease | None = None) -> None:
        if self.record is None:
            raise UnknownRoundError("the round was not opened")
        sequences = [one.sequence for one in move.events]
        if sequences != list(range(len(self.kept) + 1, len(self.kept) + 1 + len(sequences))):
            raise ConflictError(f"events {sequences} after {len(self.kept)}")
        if self.record.status.phase.ended:
            raise ConflictError("nothing follows the end of a round")
        for one in move.requests:
            self.answer_to(one.request)
        for one in move.requests:
            self.keep_answer(one, move.at)
        self._replace(move)

    def _replace(self, move: RoundMove) -> None:
        self.record = move.record or self.record
        self.kept += move.events
        self.audits += move.audits
        if self.record is not None and self.record.status.phase.ended:
            self.kept = []

    def kept_events(self, job: str, round: int) -> list[KeptEvent]:
        return list(self.kept)

    def round(self, job: str, round: int) -> RoundRecord:
        if self.record is None:
            raise UnknownRoundError("the round was not opened")
        return self.record

    def close_round(self, job: str, round: int, lease: Lease | None = None) -> None:
        assert self.round(job, round).status.phase.ended
        self.closed = True

    def answer_to(self, request: RequestRecord) -> bytes | None:
        known = self.answers.get((request.caller, request.request_id))
        if known is None:
            return None
        if known.request != request:
            raise ConflictError("the request id was used before for another content")
        return known.answer

    def keep_answer(self, answered: AnsweredRequest, at: float) -> bytes:
        first = self.answer_to(answered.request)
        if first is not None:
            return first
        self.answers[answered.request.caller, answered.request.request_id] = answered
        return answered.answer
