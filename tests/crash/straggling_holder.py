"""A key holder's process for crash tests: honest, or lying as `tests.misbehaving_holder`, or late where a test wants it to be.

In a job for which the file JOB.straggling stands beside the holders' directories, centre approves after west has, and west answers
once the file JOB.released is there: one answer more than the threshold comes, and another one is waited for.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

from secagg.ids import KeyId
from secagg.key_holder.config import load_key_holder_settings
from secagg.wire.v1 import key_holder_service_pb2 as wire
from tests import misbehaving_holder
from tests.misbehaving_holder import MisbehavingServicer

LATEST_SECONDS = 150.0
LATE_TO_ANSWER = "west"
LATE_TO_APPROVE = "centre"


class StragglingServicer(MisbehavingServicer):
    """Waits for a file, bounded, where it is asked to."""

    directory: ClassVar[Path]

    def _straggles(self, key_id: bytes) -> Path | None:
        held = self._book.of_key(KeyId(key_id))
        name = self.directory / held.key.ceremony.spec.job
        return name if name.with_suffix(".straggling").exists() else None

    async def Approve(self, request_iterator: AsyncIterator[Any], context: Any) -> Any:  # noqa: N802 - as in proto/
        seen: list[Any] = []

        async def watched() -> AsyncIterator[Any]:
            async for message in request_iterator:
                if not seen:
                    seen.append(message)
                    await self._wait_to_approve(message)
                yield message

        answer = await super().Approve(watched(), context)
        name = self._straggles(answered_key(seen))
        if name is not None and self._book.holder == LATE_TO_ANSWER:
            name.with_suffix(".approved").touch()
        return answer

    async def _wait_to_approve(self, message: Any) -> None:
        name = self._straggles(answered_key([message]))
        if name is not None and self._book.holder == LATE_TO_APPROVE:
            await exists(name.with_suffix(".approved"))

    async def Decrypt(  # noqa: N802 - as in proto/
        self, request: wire.DecryptRequest, context: Any
    ) -> AsyncIterator[wire.DecryptResponse]:
        name = self._straggles(request.key_id)
        if name is not None and self._book.holder == LATE_TO_ANSWER:
            await exists(name.with_suffix(".released"))
        async for message in super().Decrypt(request, context):
            yield message


def answered_key(messages: list[Any]) -> bytes:
    """Return the key that an approval is asked for with."""
    return bytes(messages[0].header.plan.ckks.key_id)


async def exists(path: Path) -> None:
    async with asyncio.timeout(LATEST_SECONDS):
        while not path.exists():  # noqa: ASYNC110, ASYNC240 - another process makes it
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    misbehaving_holder.MisbehavingServicer = StragglingServicer  # type: ignore[misc]
    StragglingServicer.directory = load_key_holder_settings(Path(sys.argv[1])).data_dir.parent
    misbehaving_holder.main(sys.argv[1])
