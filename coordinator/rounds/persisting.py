"""Doing again what failed because something could not be stored: a disk that is full now has room later."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from secagg.errors import StorageError

T = TypeVar("T")

_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 10.0


class LostUploadError(Exception):
    """What counted as uploaded is not there any more: no round can be made of the rest."""


async def persisting(work: Callable[[], Awaitable[T]], over: Callable[[], bool], log: Any) -> T:
    """Return what ``work`` gives; after a :class:`StorageError`, begin it again with a growing pause.

    Args:
        work: what is done; harmless to be done again.
        over: whether there is no point in it any more; then the error is raised. A round's deadlines see to it in the end.
        log: where each failure is noted.
    """
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            return await work()
        except StorageError as error:
            if over():
                raise
            log.warning("not stored, trying again", cause=str(error), pause_seconds=pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
