"""Calls of the coordinator's services for clients: each with a deadline, repeated with backoff while nobody answers."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import grpc.aio

from secagg.errors import BusyError, CertificateError, FaultyCoordinatorError, MessageError, UnreachableError
from secagg.identity import Party
from secagg.rpc_errors import error_from_rpc
from secagg.wire.v1.client_service_pb2_grpc import ClientServiceStub
from secagg.wire.v1.masking_service_pb2_grpc import MaskingServiceStub

if TYPE_CHECKING:
    from secagg.wire.v1.client_service_pb2_grpc import ClientServiceAsyncStub
    from secagg.wire.v1.masking_service_pb2_grpc import MaskingServiceAsyncStub

POLL_SECONDS: Final = 20.0
"""How long the coordinator may hold back the answer to a call that waits."""
CALL_SECONDS: Final = 40.0
"""Deadline of a call; longer than it may wait."""
ANSWER_SECONDS: Final = 10.0
"""What a call that waits to the end of a limit gets on top for its answer."""
FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 5.0
RECONNECT_OPTIONS: Final = (("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 2000))

T = TypeVar("T")
_jitter: Final = random.SystemRandom()


class Limit:
    """A point in time that a whole exchange must not pass."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def remaining(self) -> float:
        """Seconds that are left, 0 or more."""
        return max(0.0, self._end - time.monotonic())

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return self.remaining == 0


def poll_seconds(limit: Limit) -> float:
    """Return how long a call may wait within this limit."""
    return min(POLL_SECONDS, limit.remaining)


class Patience:
    """How long the coordinator may be silent: a pause that grows with each failure, and begins anew with an answer."""

    def __init__(self, silence_seconds: float, limit: Limit) -> None:
        self._seconds = silence_seconds
        self._limit = limit
        self.answered()

    def answered(self) -> None:
        """Take note of an answer."""
        self._silence = Limit(self._seconds)
        self._pause = FIRST_PAUSE_SECONDS

    async def pause(self, error: UnreachableError | BusyError) -> None:
        """Wait before the next try, or raise the error when there is no time for one."""
        if isinstance(error, BusyError):
            self._silence = Limit(self._seconds)
        seconds = self._pause * _jitter.uniform(0.5, 1.5)
        if min(self._silence.remaining, self._limit.remaining) <= seconds:
            raise error
        await asyncio.sleep(seconds)
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)


@dataclass(frozen=True, kw_only=True)
class Coordinator:
    """The coordinator as a client reaches it.

    Attributes:
        stub: what all rounds need, and the uploads of ``ckks``.
        masking: the steps of ``masking`` rounds.
        party: whom its certificate must name.
        silence_seconds: how long it may be unreachable at a stretch.
    """

    stub: ClientServiceAsyncStub
    masking: MaskingServiceAsyncStub
    party: Party
    silence_seconds: float

    @classmethod
    def on(cls, channel: grpc.aio.Channel, party: Party, silence_seconds: float) -> Coordinator:
        """Call over this channel."""
        stub: ClientServiceAsyncStub = ClientServiceStub(channel)
        masking: MaskingServiceAsyncStub = MaskingServiceStub(channel)
        return cls(stub=stub, masking=masking, party=party, silence_seconds=silence_seconds)

    def patience(self, limit: Limit) -> Patience:
        """Return the patience for one exchange."""
        return Patience(self.silence_seconds, limit)

    async def ask(self, call: Callable[[float], Awaitable[T]], limit: Limit, *, seconds: float = CALL_SECONDS) -> T:
        """Call until there is an answer.

        Args:
            call: takes its deadline in seconds; a repetition must be harmless.
            limit: of all tries together.
            seconds: deadline of one try.

        Raises:
            UnreachableError: nobody answered for too long.
            SecAggError: the error that the coordinator named.
        """
        patience = self.patience(limit)
        while True:
            try:
                with self.errors():
                    return await call(min(seconds, limit.remaining + ANSWER_SECONDS))
            except (UnreachableError, BusyError) as error:
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
