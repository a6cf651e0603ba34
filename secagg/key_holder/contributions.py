"""Reading everybody's c1 in order, verifying it and adding it up: memory for one sum, however many contributors (6.2)."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

from he.accumulate import ResidueAccumulator
from he.ciphertext import chunk_from_bytes, half_chunk_bytes
from he.errors import HEError
from he.parameters import Parameters
from he.ring import Residues
from secagg.errors import FaultyCoordinatorError
from secagg.ids import ClientId
from secagg.roles.key_holder.request import ComputedHalf
from secagg.transcript import CiphertextRoot


class SumOfC1:
    """The sum that a holder added up itself, and will answer with; safe for use by several threads."""

    def __init__(self, accumulator: ResidueAccumulator) -> None:
        self._accumulator = accumulator
        self._lock = Lock()

    @property
    def parameters(self) -> Parameters:
        """What the sum was made under."""
        return self._accumulator.parameters

    def block(self, start: int, stop: int) -> Residues:
        """Return chunks start to stop (exclusive), uint32 (stop - start, L, N), canonical."""
        with self._lock:
            return self._accumulator.block(start, stop)


class ContributionReader:
    """Takes parts of c1 in the one order that is allowed: contributor by contributor, chunk by chunk.

    Args:
        parameters: what every c1 was made under.
        clients: the contributors, in the order of the request.

    An honest coordinator has checked every chunk before, so what fails here is the coordinator's fault.
    """

    def __init__(self, parameters: Parameters, clients: Sequence[ClientId]) -> None:
        self._parameters = parameters
        self._clients = tuple(clients)
        self._chunk_bytes = half_chunk_bytes(parameters)
        self._accumulator = ResidueAccumulator(parameters)
        self._root = CiphertextRoot()
        self._chunk = 0
        self._computed: list[ComputedHalf] = []

    def add(self, *, contributor: int, first_chunk: int, data: bytes) -> None:
        """Verify and add whole chunks; raise `FaultyCoordinatorError` if they are not the next ones or must not count."""
        if contributor != len(self._computed) or contributor >= len(self._clients) or first_chunk != self._chunk:
            raise FaultyCoordinatorError(f"it sent chunk {first_chunk} of contributor {contributor} out of order")
        chunks, rest = divmod(len(data), self._chunk_bytes)
        if rest or not 0 < chunks <= self._parameters.chunks - self._chunk:
            raise FaultyCoordinatorError(f"it sent {len(data)} bytes of c1, which are no whole chunks or too many")
        view = memoryview(data)
        for start in range(0, len(data), self._chunk_bytes):
            self._add_chunk(view[start : start + self._chunk_bytes])
        if self._chunk == self._parameters.chunks:
            self._next_contributor()

    def _add_chunk(self, data: memoryview) -> None:
        try:
            self._accumulator.add_chunk(self._chunk, chunk_from_bytes(self._parameters, data))
        except HEError as error:
            client = self._clients[len(self._computed)]
            raise FaultyCoordinatorError(f"it passed on a c1 of client {client} that must not count: {error}") from None
        self._root.add(data)
        self._chunk += 1

    def _next_contributor(self) -> None:
        self._computed.append(ComputedHalf(root=self._root.digest(), chunk_digests=b"".join(self._root.digests)))
        self._root = CiphertextRoot()
        self._chunk = 0

    def finish(self) -> tuple[tuple[ComputedHalf, ...], SumOfC1]:
        """Return what was computed of each contributor, and the sum; raise `FaultyCoordinatorError` if chunks are missing."""
        if len(self._computed) != len(self._clients):
            raise FaultyCoordinatorError(f"it showed {len(self._computed)} of {len(self._clients)} contributions")
        return tuple(self._computed), SumOfC1(self._accumulator)
