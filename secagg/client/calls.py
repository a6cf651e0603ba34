"""Calls of the coordinator's services for clients: each with a deadline, repeated with backoff wherever a coordinator is found."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import grpc.aio

from secagg.coordinators import TRIED_AGAIN, Channels, Limit, Patience, Route
from secagg.errors import CertificateError, FaultyCoordinatorError, MessageError, SecAggError
from secagg.identity import Party
from secagg.rpc_errors import error_from_rpc
from secagg.wire.v1.client_service_pb2_grpc import ClientServiceStub
from secagg.wire.v1.masking_service_pb2_grpc import MaskingServiceStub

if TYPE_CHECKING:
    from secagg.wire.v1.client_service_pb2_grpc import ClientServiceAsyncStub
    from secagg.wire.v1.masking_service_pb2_grpc import MaskingServiceAsyncStub

__all__ = ["Coordinator", "Limit", "Patience", "poll_seconds", "reading_answer"]

POLL_SECONDS: Final = 20.0
"""How long the coordinator may hold back the answer to a call that waits."""
CALL_SECONDS: Final = 40.0
"""Deadline of a call; longer than it may wait."""
ANSWER_SECONDS: Final = 10.0
"""What a call that waits to the end of a limit gets on top for its answer."""

T = TypeVar("T")


def poll_seconds(limit: Limit) -> float:
    """Return how long a call may wait within this limit."""
    return min(POLL_SECONDS, limit.remaining)


class Coordinator:
    """The coordinator as one exchange of a client reaches it: at whichever of its addresses it is found.

    Args:
        channels: to every address.
        party: whom its certificate must name, wherever it is.
        silence_seconds: how long it may be found nowhere at a stretch.
    """

    def __init__(self, channels: Channels, party: Party, silence_seconds: float) -> None:
        self.party: Final = party
        self._route = Route(channels)
        self._silence_seconds = silence_seconds

    @classmethod
    def on(cls, channel: grpc.aio.Channel, party: Party, silence_seconds: float) -> Coordinator:
        """Call over this channel alone."""
        return cls(Channels(str(party), lambda _: channel), party, silence_seconds)

    @property
    def stub(self) -> ClientServiceAsyncStub:
        """What all rounds need, and the uploads of ``ckks``; at the address of now, so ask for it at each try."""
        stub: ClientServiceAsyncStub = ClientServiceStub(self._route.channel)
        return stub

    @property
    def masking(self) -> MaskingServiceAsyncStub:
        """The steps of ``masking`` rounds; at the address of now, so ask for it at each try."""
        stub: MaskingServiceAsyncStub = MaskingServiceStub(self._route.channel)
        return stub

    def patience(self, limit: Limit) -> Patience:
        """Return the patience for one exchange."""
        return Patience(self._silence_seconds, limit)

    async def ask(self, call: Callable[[float], Awaitable[T]], limit: Limit, *, seconds: float = CALL_SECONDS) -> T:
        """Call until there is an answer, at one address after the other.

        Args:
            call: takes its deadline in seconds and looks up the stub; a repetition must be harmless, so it carries one and the
                same request id.
            limit: of all tries together.
            seconds: deadline of one try.

        Raises:
            UnreachableError: nobody answered for too long.
            ElsewhereError: nobody ran the job for too long.
            SecAggError: the error that the coordinator named.
        """
        patience = self.patience(limit)
        while True:
            patience.asked()
            try:
                with self.errors():
                    return await call(min(seconds, limit.remaining + ANSWER_SECONDS))
            except TRIED_AGAIN as error:
                await self.wait(patience, error)

    async def wait(self, patience: Patience, error: SecAggError) -> None:
        """Wait before the next try, which is elsewhere when the error says so; or raise the error."""
        self._route.turn(error)
        await patience.pause(error)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn a failed call into the error that it stands for."""
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error, party=str(self.party)) from error


@contextmanager
def reading_answer() -> Iterator[None]:
    """Blame the coordinator for what cannot be read or was signed by a stranger: it should have refused it, or never have made it."""
    try:
        yield
    except (MessageError, CertificateError) as error:
        raise FaultyCoordinatorError(f"its answer is refused: {error.reason}", next_step=error.next_step) from error
