"""What an adversary knows at the end who heard all that honest clients ever sent, and is in league with the corrupt ones.

It is an upper bound: who holds enough shares has the secret, and whoever can add masked vectors up so that every mask is
known or cancels sees their sum. Two vectors hang together when they carry a mask that the adversary does not know; a mask
that stands on one vector alone hides it and whatever hangs on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from secagg.ids import ClientId
from secagg.masking.agreement import pair_mask_key, self_mask_key
from secagg.masking.sealing import open_sealed
from secagg.masking.shamir import SHARE_BYTES
from secagg.messages.masking import Shares
from tests.simulation.masking.client_nodes import ClientNode


@dataclass
class Known:
    """Who is known to hold or to have given a share of each kind of one client's secrets."""

    seed: set[ClientId] = field(default_factory=set)
    key: set[ClientId] = field(default_factory=set)


@dataclass(frozen=True)
class Exposure:
    """Honest clients whose seeds and whose mask keys are known, and sets of honest vectors whose sum is."""

    seeds: frozenset[ClientId]
    keys: frozenset[ClientId]
    sums: tuple[frozenset[ClientId], ...]


def exposure(nodes: dict[ClientId, ClientNode]) -> Exposure:
    """Count shares, and find the sums that open."""
    honest = [node for node in nodes.values() if not node.corrupt]
    known = {node.client: _known(node, nodes) for node in honest if node.sharing is not None}
    dealt = {node.client: node.sharing.house.threshold for node in honest if node.sharing is not None}
    seeds = frozenset(client for client, one in known.items() if len(one.seed) >= dealt[client])
    keys = frozenset(client for client, one in known.items() if len(one.key) >= dealt[client])
    return Exposure(seeds=seeds, keys=keys, sums=tuple(_sums(nodes, seeds, keys)))


def _known(owner: ClientNode, nodes: dict[ClientId, ClientNode]) -> Known:
    """Corrupt neighbours hold both kinds from the moment that the shares were sent."""
    assert owner.sharing is not None
    known = Known()
    for receiver in owner.sharing.house.neighbours_of(owner.client):
        if receiver not in nodes or nodes[receiver].corrupt:
            known.seed.add(receiver)
            known.key.add(receiver)
            continue
        pair = pair_dealt(owner, nodes[receiver])
        for share in _revealed_of(owner.client, nodes[receiver]):
            kind = {pair[:SHARE_BYTES]: known.seed, pair[SHARE_BYTES:]: known.key}.get(share)
            assert kind is not None, f"{receiver} revealed what {owner.client} never dealt to it"
            kind.add(receiver)
    return known


def pair_dealt(owner: ClientNode, receiver: ClientNode) -> bytes:
    """Return the pair of shares that one client sealed to another, seed first, opened with the receiver's own key."""
    state, reader = owner.sharing, receiver.sharing
    assert state is not None
    (shares,) = owner.said.get(Shares) or (None,)
    if not isinstance(shares, Shares) or reader is None or reader.roster_digest != state.roster_digest:
        return b""
    return open_sealed(
        reader.secrets.share_private,
        state.join.share_key,
        shares.sealed[state.house.neighbours_of(owner.client).index(receiver.client)],
        plan_digest=state.plan.digest,
        roster_digest=state.roster_digest,
        sender=owner.client,
        receiver=receiver.client,
    )


def _revealed_of(owner: ClientId, holder: ClientNode) -> Iterator[bytes]:
    for unmasking, _ in holder.unmaskings:
        assert holder.sharing is not None
        order = holder.sharing.house.neighbours_of(holder.client)
        if owner in order and unmasking.shares[order.index(owner)]:
            yield unmasking.shares[order.index(owner)]


def _sums(
    nodes: dict[ClientId, ClientNode], seeds: frozenset[ClientId], keys: frozenset[ClientId]
) -> Iterator[frozenset[ClientId]]:
    """Yield the sets of honest vectors that hang together, and on which every unknown mask stands twice."""
    carriers: dict[bytes, set[ClientId]] = {}
    masked = {node.client: node for node in nodes.values() if not node.corrupt and node.vector is not None}
    for client, node in masked.items():
        for key in unknown_masks(node, nodes, seeds, keys):
            carriers.setdefault(key, set()).add(client)
    for together in _hanging_together(masked, carriers.values()):
        if all(len(on) > 1 for on in carriers.values() if on & together):
            yield together


def unknown_masks(
    node: ClientNode, nodes: dict[ClientId, ClientNode], seeds: frozenset[ClientId], keys: frozenset[ClientId]
) -> set[bytes]:
    """Return the keys of the masks on a vector that the adversary does not know."""
    state, masks = node.sharing, node.masks
    assert state is not None
    assert masks is not None
    context = {"plan_digest": state.plan.digest, "roster_digest": state.roster_digest}
    known = {self_mask_key(state.secrets.self_seed, **context, client=node.client)} if node.client in seeds else set()
    for other in state.house.neighbours_of(node.client):
        join = state.roster.joins[state.house.places[other]].message
        if other not in nodes or nodes[other].corrupt or other in keys or node.client in keys:
            key = pair_mask_key(state.secrets.mask_private, join.mask_key, **context, one=node.client, other=other)
            known.add(key)
    return {*masks.added, *masks.subtracted} - known


def _hanging_together(
    clients: Iterable[ClientId], carriers: Iterable[set[ClientId]]
) -> tuple[frozenset[ClientId], ...]:
    parts = [frozenset({client}) for client in clients]
    for on in carriers:
        touched = [part for part in parts if part & on]
        parts = [part for part in parts if not part & on]
        parts.append(frozenset().union(*touched))
    return tuple(parts)
