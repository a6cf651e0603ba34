"""The shares that a client holds of its neighbours' secrets, and the one way to reveal them.

The coordinator never loads this module.
"""

from collections.abc import Collection, Mapping, Sequence

from secagg.ids import ClientId
from secagg.masking.sealing import decode_pair
from secagg.masking.shamir import encode_share


class HeldShares:
    """Of each neighbour that shared, a share of its mask key and one of its self-mask seed. No `repr`, no way to read it.

    A client's machine lets go of it in the step that reveals, so it is asked once in a round.
    """

    __slots__ = ("_pairs",)

    def __init__(self, opened: Mapping[ClientId, bytes]) -> None:
        """Take what `sealing.open_sealed` gave, by sender; :class:`MessageError` for what is no pair of shares."""
        # The place of each kind is the answer to "is it a survivor?": False finds the mask key, True the seed.
        self._pairs: dict[ClientId, tuple[bytes, bytes]] = {}
        for sender, data in opened.items():
            seed, key = decode_pair(data)
            self._pairs[sender] = (encode_share(key), encode_share(seed))

    def reveal(self, neighbours: Sequence[ClientId], survivors: Collection[ClientId]) -> tuple[bytes, ...]:
        """Return one share for each neighbour, in this order: a survivor's seed share, anybody else's mask-key share.

        Empty where none is held. Each place holds what one index picks, so no answer has both kinds for one neighbour.
        """
        return tuple(self._pairs[one][one in survivors] if one in self._pairs else b"" for one in neighbours)
