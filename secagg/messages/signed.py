"""What a signature makes of a message: bytes that can be shown to others, and a message whose sender is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from secagg.identity import Party, SignedMessage

M_co = TypeVar("M_co", covariant=True)


@dataclass(frozen=True, kw_only=True)
class Authenticated(Generic[M_co]):
    """A message that :mod:`secagg.codec` verified: signature, certificate, role, and that the name in it is the signer's.

    Role machines only ever see messages of this type; ``signed`` is kept so that others can verify it again.
    """

    message: M_co
    party: Party
    signed: SignedMessage
