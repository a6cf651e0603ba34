"""What each protocol uploads, in its own messages: the two halves of a ciphertext, or one masked vector."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Final

from he.ciphertext import half_chunk_bytes
from he.parameters import Parameters
from secagg import codec
from secagg.client.calls import Coordinator
from secagg.client.spool import CiphertextSpool, SpoolFile
from secagg.client.transfer import MAX_PART_BYTES, Offsets
from secagg.ids import JobId, RoundNumber
from secagg.messages.round import Half
from secagg.wire.v1 import client_service_pb2 as pb
from secagg.wire.v1 import masking_service_pb2 as masking_pb
from secagg.wire.v1.signed_pb2 import Signed

_HALVES: Final = tuple(Half)


@dataclass(frozen=True, kw_only=True)
class HalvesUpload:
    """Both halves of a ciphertext, in whole chunks (docs/protocol.md, 5.6)."""

    coordinator: Coordinator
    job: JobId
    round: RoundNumber
    signed: Signed
    parameters: Parameters
    spool: CiphertextSpool

    @property
    def sizes(self) -> Offsets:
        """Length of c0 and of c1."""
        return (self.parameters.chunks * self.grain,) * len(_HALVES)

    @property
    def grain(self) -> int:
        """Length of a chunk."""
        return half_chunk_bytes(self.parameters)

    @property
    def part_bytes(self) -> int:
        """As many whole chunks as fit."""
        return MAX_PART_BYTES // self.grain * self.grain

    def read(self, stretch: int, offset: int, length: int) -> bytes:
        """Return bytes of a half."""
        return self.spool.read(_HALVES[stretch], offset, length)

    def begin(self, seconds: float) -> Any:
        """Open the stream."""
        return self.coordinator.stub.UploadHalves(timeout=seconds)

    def header(self, request_id: str) -> pb.UploadHalvesRequest:
        """Return the first message."""
        header = pb.UploadHeader(request_id=request_id, job=self.job, round=self.round, upload=self.signed)
        return pb.UploadHalvesRequest(header=header)

    def part(self, stretch: int, offset: int, data: bytes, digest: bytes) -> pb.UploadHalvesRequest:
        """Return a message with a part."""
        half = codec.half_to_wire(_HALVES[stretch])
        return pb.UploadHalvesRequest(part=pb.UploadPart(half=half, offset=offset, data=data, digest=digest))

    def arrived(self, answer: Any) -> Offsets:
        """Return what has arrived of c0 and c1."""
        return (answer.c0_bytes, answer.c1_bytes)

    def ask_arrived(self, seconds: float) -> Awaitable[Any]:
        """Ask how much has arrived."""
        request = pb.GetUploadOffsetsRequest(job=self.job, round=self.round)
        return self.coordinator.stub.GetUploadOffsets(request, timeout=seconds)

    def complete(self, request_id: str, seconds: float) -> Awaitable[Any]:
        """Have it verified and counted."""
        request = pb.CompleteUploadRequest(request_id=request_id, job=self.job, round=self.round, upload=self.signed)
        return self.coordinator.stub.CompleteUpload(request, timeout=seconds)


@dataclass(frozen=True, kw_only=True)
class VectorUpload:
    """The one masked vector of a round (docs/protocol.md, 10.4)."""

    coordinator: Coordinator
    job: JobId
    round: RoundNumber
    signed: Signed
    size: int
    file: SpoolFile

    @property
    def sizes(self) -> Offsets:
        """Length of the packed vector."""
        return (self.size,)

    @property
    def grain(self) -> int:
        """A byte: the coordinator says where a verified part ended."""
        return 1

    @property
    def part_bytes(self) -> int:
        """The largest part."""
        return MAX_PART_BYTES

    def read(self, stretch: int, offset: int, length: int) -> bytes:  # noqa: ARG002 - there is one stretch
        """Return bytes of the vector."""
        return self.file.read(offset, length)

    def begin(self, seconds: float) -> Any:
        """Open the stream."""
        return self.coordinator.masking.UploadVector(timeout=seconds)

    def header(self, request_id: str) -> masking_pb.UploadVectorRequest:
        """Return the first message."""
        header = masking_pb.VectorHeader(request_id=request_id, job=self.job, round=self.round, upload=self.signed)
        return masking_pb.UploadVectorRequest(header=header)

    def part(self, stretch: int, offset: int, data: bytes, digest: bytes) -> masking_pb.UploadVectorRequest:  # noqa: ARG002
        """Return a message with a part."""
        return masking_pb.UploadVectorRequest(part=masking_pb.VectorPart(offset=offset, data=data, digest=digest))

    def arrived(self, answer: Any) -> Offsets:
        """Return what has arrived."""
        return (answer.bytes,)

    def ask_arrived(self, seconds: float) -> Awaitable[Any]:
        """Ask how much has arrived."""
        request = masking_pb.GetVectorOffsetRequest(job=self.job, round=self.round)
        return self.coordinator.masking.GetVectorOffset(request, timeout=seconds)

    def complete(self, request_id: str, seconds: float) -> Awaitable[Any]:
        """Have it verified and counted."""
        request = masking_pb.CompleteVectorRequest(
            request_id=request_id, job=self.job, round=self.round, upload=self.signed
        )
        return self.coordinator.masking.CompleteVector(request, timeout=seconds)
