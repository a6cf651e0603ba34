"""How callers find a coordinator again: several may serve one database, and each may be away for a while.

Each caller goes round the addresses that it was told: to the next one when nobody answers, and to the one that runs a job when
another says so. All of them carry certificates of the same name, so an address proves nothing and decides nothing but where to ask.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import grpc
import grpc.aio

from secagg.errors import BusyError, ElsewhereError, SecAggError, StorageError, UnreachableError, UsageError

FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 5.0
LONGEST_HINT_SECONDS: Final = 60
"""No coordinator has a caller wait longer than this for the next try, whatever it says."""
RECONNECT_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 200),
    # How long a connection may take to be made, too: a machine that is gone costs this much before the next one is called.
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.max_reconnect_backoff_ms", 2000),
)
TRIED_AGAIN: Final = (UnreachableError, ElsewhereError, BusyError, StorageError)
"""What may be over at the next try. A `StorageError` of the caller's own is not: `Patience.pause` tells them apart."""

Addresses: TypeAlias = str | Sequence[str]
"""``host:port``, or several of them."""

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


class Patience:
    """How long a caller goes on trying.

    While nobody answers, or nobody runs the job, it is ``silence_seconds`` at a stretch; a coordinator that is busy, or cannot
    store for the moment, answers, and is asked again until the limit.

    Args:
        silence_seconds: how long nobody may answer at a stretch.
        limit: of all tries together.
    """

    def __init__(self, silence_seconds: float, limit: Limit) -> None:
        self._seconds = silence_seconds
        self._limit = limit
        self.answered()

    def answered(self) -> None:
        """Take note of an answer: the next silence is another one."""
        self._silence: Limit | None = None
        self._pause = FIRST_PAUSE_SECONDS

    def asked(self) -> None:
        """Let the silence begin with a question, and not with its first failure, unless it has begun."""
        self._silence = self._silence or Limit(self._seconds)

    async def pause(self, error: SecAggError) -> None:
        """Wait before the next try, or raise the error when there is no time for one, or no sense in it."""
        seconds = self._pause * _jitter.uniform(0.5, 1.5)
        if isinstance(error, UnreachableError | ElsewhereError):
            self.asked()
            left = min(self._limit.remaining, self._silence.remaining if self._silence else 0.0)
        elif isinstance(error, BusyError) or told_by_peer(error):
            self._silence, left = None, self._limit.remaining
            seconds = _hinted(error, seconds, left)
        else:
            raise error
        if left <= seconds:
            raise error
        await asyncio.sleep(seconds)
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)


def _hinted(error: SecAggError, seconds: float, left: float) -> float:
    """Return how long a coordinator asks to wait, with jitter; what it says is bounded, and leaves time for a last try."""
    hint = error.retry_after_seconds if isinstance(error, BusyError) else None
    if hint is None or hint <= 0:
        return seconds
    wanted = max(seconds, min(hint, LONGEST_HINT_SECONDS) * _jitter.uniform(1.0, 1.25))
    return wanted if wanted < left else left / 2


def told_by_peer(error: BaseException) -> bool:
    """Whether an error came over the wire, and was not raised on this side of it."""
    return isinstance(error.__cause__, grpc.RpcError)


class Channels:
    """A channel to each coordinator, opened when it is first called and closed with the others.

    Args:
        addresses: where they listen.
        connect: opens a channel to an address.

    Raises:
        UsageError: there is no address.
    """

    def __init__(self, addresses: Addresses, connect: Callable[[str], grpc.aio.Channel]) -> None:
        self.addresses: Final = (addresses,) if isinstance(addresses, str) else tuple(dict.fromkeys(addresses))
        if not self.addresses:
            raise UsageError("no coordinator's address was given", next_step="Give one as host:port, or several")
        self.preferred = self.addresses[0]
        self._connect = connect
        self._open: dict[str, grpc.aio.Channel] = {}

    def to(self, address: str) -> grpc.aio.Channel:
        """Return the channel to an address."""
        if address not in self._open:
            self._open[address] = self._connect(address)
        return self._open[address]

    async def close(self) -> None:
        """Close every channel; harmless when they are closed."""
        while self._open:
            _, channel = self._open.popitem()
            await channel.close()


class Route:
    """Which of several coordinators one caller calls; begins with the one that was right last.

    Args:
        channels: to all of them.
    """

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self.address = channels.preferred

    @property
    def several(self) -> bool:
        """Whether there is another one."""
        return len(self._channels.addresses) > 1

    @property
    def channel(self) -> grpc.aio.Channel:
        """The channel to call over now."""
        return self._channels.to(self.address)

    def turn(self, error: SecAggError) -> None:
        """Go on to another one when an error says that this one is not it.

        An address that a coordinator names is called only when the caller was told of it before: a liar cannot lead it elsewhere.
        """
        if not isinstance(error, UnreachableError | ElsewhereError):
            return
        addresses = self._channels.addresses
        named = error.address if isinstance(error, ElsewhereError) else ""
        if named in addresses and named != self.address:
            self.address = named
        else:
            self.address = addresses[(addresses.index(self.address) + 1) % len(addresses)]
        self._channels.preferred = self.address
