"""How rounds share the spool: what one began it can end, and who finds no space is told when to come back."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import MappingProxyType

import pytest

from coordinator.store.blobs import DirectoryBlobStore
from coordinator.streams import Part, Spool, UploadKey
from secagg.errors import BusyError
from secagg.ids import ClientId, JobId, RoundNumber

JOB = JobId("digits")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class TestRounds:
    """Space is a whole round's, so that two rounds never wait for each other's."""

    CLIENTS = tuple(ClientId(name) for name in ("alice", "bob", "carol"))
    UPLOAD = MappingProxyType({"vector": 100})

    def spool(self, tmp_path: Path, max_bytes: int = 450) -> Spool:
        self.clock = Clock()
        return Spool(DirectoryBlobStore(tmp_path), max_bytes=max_bytes, clock=self.clock)

    def key(self, round: int, client: ClientId) -> UploadKey:
        return UploadKey(job=JOB, round=RoundNumber(round), client=client)

    def reserve(self, spool: Spool, round: int, *clients: ClientId) -> None:
        for client in clients:
            spool.reserve(self.key(round, client), self.UPLOAD, clients=len(self.CLIENTS))

    def test_what_a_round_began_it_can_end_whoever_comes_between(self, tmp_path: Path) -> None:
        spool = self.spool(tmp_path)
        self.reserve(spool, 1, self.CLIENTS[0])
        with pytest.raises(BusyError, match="300 are wanted, 150 are left"):
            self.reserve(spool, 2, self.CLIENTS[0])
        self.reserve(spool, 1, *self.CLIENTS)
        assert spool.reserved_bytes == 300
        spool.delete_round(JOB, RoundNumber(1))
        assert spool.reserved_bytes == 0
        self.reserve(spool, 2, *self.CLIENTS)

    def test_a_round_beyond_the_bound_gets_all_of_it_and_no_more(self, tmp_path: Path) -> None:
        spool = self.spool(tmp_path, max_bytes=250)
        self.reserve(spool, 1, *self.CLIENTS[:2])
        with pytest.raises(BusyError):
            self.reserve(spool, 1, self.CLIENTS[2])
        assert spool.reserved_bytes == 250

    def test_the_share_of_the_refused_and_of_the_late_is_free(self, tmp_path: Path) -> None:
        spool = self.spool(tmp_path)
        self.reserve(spool, 1, *self.CLIENTS[:2])
        spool.discard(self.key(1, self.CLIENTS[1]))
        assert spool.reserved_bytes == 200
        spool.keep_only(JOB, RoundNumber(1), {self.CLIENTS[0]})
        assert spool.reserved_bytes == 100

    def test_a_recalled_round_goes_on_beside_others(self, tmp_path: Path) -> None:
        spool = self.spool(tmp_path)
        self.reserve(spool, 1, self.CLIENTS[0])
        data = b"bytes"
        spool.append(
            self.key(1, self.CLIENTS[0]),
            Part(stream="vector", offset=0, data=data, digest=hashlib.sha256(data).digest()),
        )
        again = Spool(DirectoryBlobStore(tmp_path), max_bytes=500)
        again.recall(JOB, RoundNumber(1), self.UPLOAD)
        assert again.reserved_bytes == 100
        self.reserve(again, 2, self.CLIENTS[0])
        self.reserve(again, 1, self.CLIENTS[1])
        assert again.reserved_bytes == 500
        with pytest.raises(BusyError):
            self.reserve(again, 1, *self.CLIENTS)
        again.forget_round(JOB, RoundNumber(1))
        assert again.reserved_bytes == 300

    def test_a_recalled_round_that_still_takes_uploads_has_all_its_space(self, tmp_path: Path) -> None:
        DirectoryBlobStore(tmp_path).append(self.key(1, self.CLIENTS[0]).blob("vector"), 0, b"bytes")
        spool = self.spool(tmp_path)
        spool.recall(JOB, RoundNumber(1), self.UPLOAD, clients=len(self.CLIENTS))
        with pytest.raises(BusyError):
            self.reserve(spool, 2, self.CLIENTS[0])
        self.reserve(spool, 1, *self.CLIENTS)

    @pytest.mark.parametrize(("held", "hint"), [(0.0, 1), (5.0, 3), (20.0, 10), (3600.0, 30)])
    def test_the_hint_grows_with_the_time_for_which_the_space_is_held(
        self, tmp_path: Path, held: float, hint: int
    ) -> None:
        spool = self.spool(tmp_path)
        self.reserve(spool, 1, self.CLIENTS[0])
        self.clock.now += held
        self.reserve(spool, 1, self.CLIENTS[1])
        with pytest.raises(BusyError) as busy:
            self.reserve(spool, 2, self.CLIENTS[0])
        assert busy.value.retry_after_seconds == hint
