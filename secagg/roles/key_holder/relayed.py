"""What a holder checks of every list that the coordinator relays (docs/protocol.md, section 4).

A list holds one message of each holder, in the order of the group; this holder's own comes back as it was sent; and nobody
shows a second message for a step in which one was seen before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from secagg.errors import FaultyCoordinatorError, FaultyKeyHolderError
from secagg.ids import HolderId
from secagg.messages.ceremony import Dealing, Hello, KeyCommitment, Trial
from secagg.messages.signed import Authenticated
from secagg.plan import HolderGroup


class OfHolder(Protocol):
    """A message that names the holder who signed it."""

    @property
    def holder(self) -> HolderId:
        """Its signer."""
        ...


M = TypeVar("M", bound=OfHolder)

_BINDINGS: Final = {Hello: "ceremony_digest", KeyCommitment: "context", Dealing: "context", Trial: "key_id"}
"""The field that says which ceremony a message belongs to: an honest holder signs one of a kind for one value of it."""


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Who reads a relayed list: a holder of the group."""

    group: HolderGroup
    holder: HolderId

    @property
    def number(self) -> int:
        """Its point, 1 to n."""
        return self.group.index(self.holder)


def verify_everyone(reader: Reader, messages: Sequence[Authenticated[M]], what: str) -> None:
    """Raise `FaultyCoordinatorError` unless there is one message of each holder, in the group's order."""
    signers = tuple(one.message.holder for one in messages)
    if signers != reader.group.holders:
        raise FaultyCoordinatorError(
            f"it relayed {what} of {', '.join(signers) or 'nobody'}, and the group is {', '.join(reader.group.holders)}"
        )


def verify_own(reader: Reader, messages: Sequence[Authenticated[M]], own: M, what: str) -> None:
    """Raise `FaultyCoordinatorError` unless the reader's own message came back unchanged."""
    if messages[reader.number - 1].message != own:
        raise FaultyCoordinatorError(f"the {what} of {reader.holder} came back to it altered")


def verify_no_equivocation(
    reader: Reader, seen: Sequence[Authenticated[M]], messages: Sequence[Authenticated[M]], what: str
) -> None:
    """Compare a list with the one that was seen for the same step.

    Raises:
        FaultyKeyHolderError: a holder signed two different messages for one step.
        FaultyCoordinatorError: the reader's own message is not the one that it sent, or one was signed for something else.
    """
    for first, second in zip(seen, messages, strict=True):
        if first.message == second.message:
            continue
        holder = second.message.holder
        if holder == reader.holder:
            raise FaultyCoordinatorError(f"the {what} of {reader.holder} came back to it altered")
        # What a holder rightly signed for another ceremony proves nothing against it, whoever shows it here.
        if not _are_of_one_step(first.message, second.message):
            raise FaultyCoordinatorError(f"the {what} that it relayed of {holder} belongs to another ceremony or key")
        raise FaultyKeyHolderError(holder, f"it signed two different messages as its {what}")


def _are_of_one_step(first: OfHolder, second: OfHolder) -> bool:
    binding = _BINDINGS[type(first)]
    return bool(getattr(first, binding) == getattr(second, binding))
