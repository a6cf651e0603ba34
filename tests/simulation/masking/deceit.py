"""The lies that a coordinator tells in simulated masking rounds, and what it heard."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from secagg.ids import ClientId
from secagg.messages.masking import Confirmation, MaskedUpload, MaskingJoin, Shares, Unmasking
from secagg.messages.signed import Authenticated


class Lie(Enum):
    """What the coordinator does; one may do several."""

    TINY_PLAN = "offers a plan that bears no corrupt client"
    SPLITS_ROSTER = "shows two sides rosters of which each lacks some of the other side"
    TWO_FACES = "shows two sides the same clients, with different keys of the corrupt ones"
    LEAVES_OUT = "shows a client a roster without it"
    SWAPS_KEY = "puts a mask key of its own into a client's join"
    COPIES_KEY = "has a corrupt client join with another's key"
    REPLAYS_JOIN = "shows a client's join of another round"
    WEAK_NUMBERS = "shows a graph with weaker numbers than the plan allows"
    GHOSTS = "names clients that took part in another roster as sharers and survivors of this one"
    SPLITS_SHARERS = "shows two sides different sharers"
    ISOLATES = "shows a client hardly any honest neighbour among the sharers, and says that those dropped out"
    MIXES_SEALED = "hands over shares as another sender's, of another round, or none"
    SPLITS_SURVIVORS = "shows two sides different survivors"
    EACH_ITS_OWN = "shows every client a set of survivors of its own"
    DROPPED_AND_ALIVE = "says to one side that a living client dropped out, and to the other that it did not"
    LATE_VECTOR = "declares a client dropped out, and keeps its vector"
    ASKS_TWICE = "shows another set of survivors to whoever asks again"
    FORGES_CONFIRMATIONS = "shows confirmations of strangers, of other sets, twice, or with an impostor's signature"
    BENDS_RESULT = "publishes for other contributors than those that were confirmed"


@dataclass
class Heard:
    """All that clients said in a round, by client."""

    joins: dict[ClientId, Authenticated[MaskingJoin]] = field(default_factory=dict)
    shares: dict[ClientId, Authenticated[Shares]] = field(default_factory=dict)
    uploads: dict[ClientId, Authenticated[MaskedUpload]] = field(default_factory=dict)
    confirmations: dict[ClientId, Authenticated[Confirmation]] = field(default_factory=dict)
    unmaskings: dict[ClientId, Authenticated[Unmasking]] = field(default_factory=dict)
