"""What becomes of clients in simulated masking rounds, and what the corrupt ones do with their shares."""

from __future__ import annotations

import random
from dataclasses import replace
from enum import Enum

import numpy as np

from secagg.errors import UnknownRoundError
from secagg.masking.sealing import PAIR_BYTES, encode_pair, seal
from secagg.messages.masking import Shares
from secagg.roles.client.masking.state import Sharing


class Fate(Enum):
    """What becomes of a client."""

    HONEST = "honest"
    LATE = "comes when the round may be closed"
    ABSENT = "never comes"
    GONE_BEFORE_SHARES = "is gone once it joined"
    GONE_AFTER_SHARES = "is gone once it sent its shares"
    GONE_IN_UPLOAD = "is gone while its vector is on the way"
    LATE_VECTOR = "sends its vector when the time for it is over"
    GONE_BEFORE_CONFIRM = "is gone once its vector counts"
    GONE_BEFORE_UNMASK = "is gone once it confirmed the survivors"
    RESTARTS = "dies, and goes on with what it kept"
    FORGETS = "dies, and comes back with nothing"
    COLLUDES = "follows the protocol, and tells the coordinator all that it knows"
    SEALS_GARBAGE = "seals what are no shares to some"
    DEALS_WRONG = "seals shares of nothing to some"
    SHARES_WITH_FEW = "leaves places empty for some"
    OTHER_BYTES = "uploads other bytes than it signed"
    GARBAGE_VECTOR = "uploads a vector of noise"
    CONFIRMS_ANOTHER = "signs another set of survivors"
    REVEALS_WRONG = "reveals shares that are none"
    REVEALS_OTHER = "reveals shares of the wrong length"


CORRUPT = frozenset(list(Fate)[list(Fate).index(Fate.COLLUDES) :])
"""Fates of clients in league with the coordinator: their secrets count as known."""
STEADY = frozenset({Fate.HONEST, Fate.LATE, Fate.LATE_VECTOR, Fate.RESTARTS})
"""Honest clients that stay to the end."""


class VanishedError(Exception):
    """The client is gone."""


class CrashError(Exception):
    """The client's process died."""


class RoundOverError(UnknownRoundError):
    """The round ended without a result for this client."""


def bent_shares(fate: Fate, draws: random.Random, state: Sharing, shares: Shares) -> Shares:
    """Return what a client with this fate sends as its shares: some are worth nothing."""
    makes = {
        Fate.SEALS_GARBAGE: lambda _: draws.randbytes(PAIR_BYTES + 16),
        Fate.SHARES_WITH_FEW: lambda _: b"",
        Fate.DEALS_WRONG: lambda place: _sealed_nonsense(draws, state, place),
    }
    if fate not in makes:
        return shares
    few = {place for place in range(len(shares.sealed)) if draws.random() < 0.3}
    bent = (makes[fate](place) if place in few else one for place, one in enumerate(shares.sealed))
    return replace(shares, sealed=tuple(bent))


def _sealed_nonsense(draws: random.Random, state: Sharing, place: int) -> bytes:
    receiver = state.house.neighbours_of(state.client)[place]
    generator = np.random.default_rng(draws.getrandbits(32))
    seed, key = (generator.integers(0, 1 << 30, 9, dtype=np.uint32) for _ in range(2))
    return seal(
        state.secrets.share_private,
        state.roster.joins[state.house.places[receiver]].message.share_key,
        encode_pair(seed, key),
        plan_digest=state.plan.digest,
        roster_digest=state.roster_digest,
        sender=state.client,
        receiver=receiver,
    )
