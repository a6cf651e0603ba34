"""The services for clients over real TLS, by one that does what a test says, for what an honest coordinator never does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio

from secagg.client.calls import Coordinator
from secagg.identity import Party, Role
from secagg.rpc_refusals import refuse
from secagg.transport import TlsIdentity, bind_port, open_channel, server_options
from secagg.wire.v1 import client_service_pb2 as pb
from secagg.wire.v1 import masking_service_pb2 as masking_pb
from secagg.wire.v1.client_service_pb2_grpc import ClientServiceServicer, add_ClientServiceServicer_to_server
from secagg.wire.v1.masking_service_pb2_grpc import MaskingServiceServicer, add_MaskingServiceServicer_to_server
from tests.pki_material import Deployment, deployment

PARTY = Party(role=Role.COORDINATOR, name="main")
ALICE = Party(role=Role.CLIENT, name="alice")


class ScriptedCoordinator(ClientServiceServicer, MaskingServiceServicer):
    """Notes every request; answers with the next entry of the script: a message, what makes one, or an exception."""

    def __init__(self) -> None:
        self.script: dict[str, list[Any]] = {}
        self.seen: list[Any] = []
        self.uploads: list[list[pb.UploadHalvesRequest]] = []
        self.vectors: list[list[masking_pb.UploadVectorRequest]] = []
        self.break_after_messages: list[int] = []

    def sent(self, kind: type[Any]) -> list[Any]:
        """Return the requests of a kind, in order."""
        return [one for one in self.seen if isinstance(one, kind)]

    async def _answer(self, method: str, request: Any, context: Any) -> Any:
        self.seen.append(request)
        answers = self.script[method]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        answer = answer(request) if callable(answer) else answer
        if isinstance(answer, Exception):
            await refuse(context, answer, method=method)
        return answer

    async def WaitForRound(self, request: Any, context: Any) -> Any:  # noqa: N802 - as in proto/
        return await self._answer("WaitForRound", request, context)

    async def Join(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answer("Join", request, context)

    async def WaitForRoster(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answer("WaitForRoster", request, context)

    async def GetUploadOffsets(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answer("GetUploadOffsets", request, context)

    async def UploadHalves(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
        self.uploads.append([])
        await self._receive(request_iterator, context, self.uploads[-1])
        return await self._answer("UploadHalves", None, context)

    async def CompleteUpload(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answer("CompleteUpload", request, context)

    async def WaitForResult(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answer("WaitForResult", request, context)

    async def DownloadMean(self, request: Any, context: Any) -> Any:  # noqa: N802
        answers = await self._answer("DownloadMean", request, context)
        for answer in answers:
            if isinstance(answer, Exception):
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")
            yield pb.DownloadMeanResponse(data=answer)

    async def _receive(self, requests: Any, context: Any, messages: list[Any]) -> None:
        most = self.break_after_messages.pop(0) if self.break_after_messages else None
        async for message in requests:
            messages.append(message)
            if most is not None and len(messages) >= most:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")

    # the steps of masking rounds

    async def SendShares(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answer("SendShares", request, context)

    async def WaitForShares(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answer("WaitForShares", request, context)

    async def GetVectorOffset(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answer("GetVectorOffset", request, context)

    async def UploadVector(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
        self.vectors.append([])
        await self._receive(request_iterator, context, self.vectors[-1])
        return await self._answer("UploadVector", None, context)

    async def CompleteVector(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answer("CompleteVector", request, context)

    async def WaitForSurvivors(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answer("WaitForSurvivors", request, context)

    async def Confirm(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answer("Confirm", request, context)

    async def WaitForConfirmations(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answer("WaitForConfirmations", request, context)

    async def Unmask(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answer("Unmask", request, context)


class Stage:
    """The scripted coordinator, listening."""

    def __init__(self, service: ScriptedCoordinator, made: Deployment, port: int) -> None:
        self.service = service
        self.made = made
        self.address = f"127.0.0.1:{port}"

    @property
    def identity(self) -> TlsIdentity:
        return self.made.identity(ALICE)


@asynccontextmanager
async def scripted_coordinator(directory: Path) -> AsyncIterator[Stage]:
    made, service = deployment(directory / "pki"), ScriptedCoordinator()
    server = grpc.aio.server(options=server_options())
    add_ClientServiceServicer_to_server(service, server)
    add_MaskingServiceServicer_to_server(service, server)
    port = bind_port(server, "127.0.0.1:0", made.identity(PARTY))
    await server.start()
    try:
        yield Stage(service, made, port)
    finally:
        await server.stop(None)


@asynccontextmanager
async def calling(stage: Stage, *, silence_seconds: float = 5.0) -> AsyncIterator[Coordinator]:
    channel = open_channel(stage.address, stage.identity, target=PARTY)
    try:
        yield Coordinator.on(channel, PARTY, silence_seconds)
    finally:
        await channel.close()
