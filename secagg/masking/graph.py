"""The neighbour graph: who shares masks and secrets with whom, from the roster digest alone.

Everyone who holds the frozen roster derives the same graph, so the coordinator cannot give a
client neighbours of its choice other than by grinding rosters, which the planner allows for.

Source: Bell et al. 2020, section on the generation of the graph (Harary graph, random order).
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from secagg.digests import Canonical
from secagg.errors import UsageError
from secagg.ids import Digest
from secagg.labels import NEIGHBOUR_GRAPH
from secagg.masking.agreement import derive_key
from secagg.masking.stream import MaskStream

Positions = npt.NDArray[np.int64]

_SORT_KEY_BYTES: Final = 16


def neighbours(roster_digest: Digest, clients: int, degree: int) -> Positions:
    """Return the neighbours of every client: roster positions, int64 (clients, degree), rows ascending.

    A degree of `clients - 1` is the complete graph. Any other joins each client to the
    `degree / 2` next on either side of `ring_order`: as connected as a graph of that degree can be.

    Raises:
        UsageError: fewer than 2 clients, or a degree that no such graph has.
    """
    if clients < 2 or not 1 <= degree < clients:
        raise UsageError(f"no graph joins each of {clients} clients to {degree} others")
    if degree == clients - 1:
        return _complete(clients)
    if degree % 2:
        raise UsageError(f"a degree must be even or join everyone, and {degree} of {clients} clients does neither")
    return _ring(ring_order(roster_digest, clients), degree // 2)


def ring_order(roster_digest: Digest, clients: int) -> Positions:
    """Return who stands where on the ring: a uniform permutation of roster positions, int64 (clients,).

    Sorts by random keys of 128 bits: two are equal with probability below 2^-90 for any roster
    that fits a machine, and then the lower position stands first.
    """
    if clients < 1:
        raise UsageError(f"{clients} clients stand on no ring")
    stream = MaskStream(derive_key(roster_digest, Canonical(NEIGHBOUR_GRAPH)))
    keys = np.frombuffer(stream.bytes_at(0, clients * _SORT_KEY_BYTES), dtype="<u8").reshape(clients, 2)
    return np.lexsort((keys[:, 1], keys[:, 0])).astype(np.int64)


def _complete(clients: int) -> Positions:
    others = np.arange(clients - 1, dtype=np.int64)
    # each row is 0, 1, 2.. without the client itself
    return others[None, :] + (others[None, :] >= np.arange(clients)[:, None])


def _ring(order: Positions, reach: int) -> Positions:
    steps = np.concatenate([np.arange(-reach, 0), np.arange(1, reach + 1)])
    places = (np.arange(len(order))[:, None] + steps[None, :]) % len(order)
    table = np.empty((len(order), 2 * reach), dtype=np.int64)
    table[order] = order[places]
    table.sort(axis=1)
    return table
