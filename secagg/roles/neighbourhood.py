"""Who is whose neighbour in a frozen roster of a masking round, and the numbers that go with it (``docs/protocol.md``, 10.2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from secagg.ids import ClientId, Digest
from secagg.masking.graph import neighbours
from secagg.masking.planner import Numbers, corrupt_count, dropped_count
from secagg.plan import JobSpec

_GRAPHS_KEPT: Final = 4


@dataclass(frozen=True, kw_only=True)
class Neighbourhood:
    """The graph of one roster. A position counts the clients, in the order of their names, from 0.

    Attributes:
        clients: by position.
        threshold: t, shares that open a secret.
        quorum: q, confirmations of one set of survivors.
        graph: (clients, k) positions of each client's neighbours, ascending; read-only.
    """

    clients: tuple[ClientId, ...]
    threshold: int
    quorum: int
    graph: npt.NDArray[np.intp]

    @classmethod
    def of(
        cls, roster_digest: Digest, clients: tuple[ClientId, ...], *, degree: int, threshold: int, quorum: int
    ) -> Neighbourhood:
        """Return the neighbourhood that a roster digest gives; ``degree``: k."""
        graph = _graph(roster_digest, len(clients), degree)
        return cls(clients=clients, threshold=threshold, quorum=quorum, graph=graph)

    @cached_property
    def places(self) -> dict[ClientId, int]:
        """The position of each client."""
        return {client: place for place, client in enumerate(self.clients)}

    @property
    def degree(self) -> int:
        """k, neighbours of each client."""
        return int(self.graph.shape[1])

    def neighbours_of(self, client: ClientId) -> tuple[ClientId, ...]:
        """Return a client's neighbours in the order of the roster."""
        return tuple(self.clients[place] for place in self.graph[self.places[client]].tolist())

    def members(self, clients: frozenset[ClientId] | tuple[ClientId, ...]) -> npt.NDArray[np.bool_]:
        """Return which positions belong to these clients: bool (clients,)."""
        marks = np.zeros(len(self.clients), dtype=np.bool_)
        marks[[self.places[client] for client in clients]] = True
        return marks

    def living(self, members: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
        """Return how many neighbours of each position are members: (clients,)."""
        counts: npt.NDArray[np.intp] = np.count_nonzero(members[self.graph], axis=1)
        return counts


@lru_cache(maxsize=_GRAPHS_KEPT)
def _graph(roster_digest: Digest, clients: int, degree: int) -> npt.NDArray[np.intp]:
    graph = np.asarray(neighbours(roster_digest, clients, degree), dtype=np.intp)
    graph.flags.writeable = False
    return graph


def numbers_shown(spec: JobSpec, clients: int, *, degree: int, threshold: int, quorum: int) -> Numbers:
    """Return a roster's numbers, as the planner knows them: corrupt clients and drop-outs are the plan's."""
    masking = spec.masking
    return Numbers(
        clients=clients,
        corrupt=corrupt_count(clients, masking.corrupt_fraction),
        dropped=dropped_count(clients, masking.dropout_fraction, spec.min_contributors),
        neighbours=degree,
        threshold=threshold,
        quorum=quorum,
    )
