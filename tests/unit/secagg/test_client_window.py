"""How much of an upload is under way at a time: everything on a wire that holds, and less with each break."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from secagg.client.calls import Limit
from secagg.client.transfer import MAX_PART_BYTES, Offsets, Uploader, Window
from secagg.coordinators import Patience
from secagg.errors import UnreachableError
from secagg.identity import Party, Role

MEBIBYTE = 1 << 20
CHUNK = 49152


class Sized:
    """An upload of two stretches, as far as its parts are concerned."""

    def __init__(self, size: int, grain: int) -> None:
        self.sizes: Offsets = (size, size)
        self.grain = grain
        self.part_bytes = MAX_PART_BYTES // grain * grain


def sent(window: Window, upload: Any, offsets: Offsets = (0, 0)) -> list[tuple[int, int, int]]:
    return list(window.pieces(upload, offsets))


def under_way(window: Window, upload: Any, offsets: Offsets = (0, 0)) -> int:
    return sum(length for _, _, length in sent(window, upload, offsets))


def test_on_a_wire_that_holds_there_is_one_stream() -> None:
    upload = Sized(5 * MEBIBYTE // 2, 1)
    assert sent(Window(), upload) == [
        *((0, start * MEBIBYTE, MEBIBYTE) for start in range(3)),
        *((1, start * MEBIBYTE, MEBIBYTE) for start in range(3)),
    ]


def test_each_break_lets_less_be_lost_by_the_next_one() -> None:
    upload, window, seen = Sized(100 * MEBIBYTE, 1), Window(), []
    for _ in range(5):
        window.broke(progress=True)
        seen.append(under_way(window, upload))
    assert seen == [2 * MEBIBYTE, MEBIBYTE, MEBIBYTE, MEBIBYTE, MEBIBYTE]


@pytest.mark.parametrize(("grain", "least"), [(1, 64 * 1024), (CHUNK, CHUNK), (2 * CHUNK, 2 * CHUNK)])
def test_what_not_even_a_part_gets_through_is_sent_in_smaller_ones(grain: int, least: int) -> None:
    upload, window = Sized(100 * CHUNK, grain), Window()
    for _ in range(20):
        window.broke(progress=False)
    assert sent(window, upload, (2 * CHUNK, 0)) == [(0, 2 * CHUNK, least)]


def test_parts_are_whole_grains_and_a_window_reaches_over_the_end_of_a_half() -> None:
    upload, window = Sized(100 * CHUNK, CHUNK), Window()
    window.broke(progress=True)
    parts = sent(window, upload, (80 * CHUNK, 0))
    assert [(stretch, offset // CHUNK) for stretch, offset, _ in parts] == [(0, 80), (1, 0)]
    assert all(length % CHUNK == 0 and length <= MAX_PART_BYTES for _, _, length in parts)


class Losing:
    """A coordinator that takes what is sent, and never has it: the calls of an upload, and the coordinator's own."""

    sizes = (10,)
    grain = 1
    part_bytes = 10
    party = Party(role=Role.COORDINATOR, name="main")

    def __init__(self) -> None:
        self.streams = 0

    def patience(self, limit: Limit) -> Patience:
        return Patience(0.5, limit)

    async def wait(self, patience: Patience, error: Any) -> None:
        await patience.pause(error)


async def test_a_coordinator_that_loses_everything_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    losing: Any = Losing()

    async def send(_self: Uploader, offsets: Offsets, _limit: Limit) -> Offsets:
        losing.streams += 1
        return offsets

    monkeypatch.setattr(Uploader, "_send", send)
    async with asyncio.timeout(10):
        with pytest.raises(UnreachableError, match="lost what it had taken"):
            await Uploader(losing, losing, lambda _: None).run(Limit(60))
    assert losing.streams < 10
