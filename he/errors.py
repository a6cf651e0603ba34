"""What can go wrong in the lattice layer; the type says who has to act."""

from collections.abc import Iterable


class HEError(Exception):
    """Root of every error that this package raises on purpose."""


class ParameterError(HEError):
    """The numbers asked for do not fit together; the message names the one to change."""


class FormatError(HEError):
    """Bytes that are not what they claim to be. The only error type of every decoder."""


class CiphertextError(HEError):
    """Well-formed bytes, but a contribution that must not count (level, scale, size, residues)."""


class UpdateError(HEError):
    """A model update that cannot be packed; the message names the tensor and the way out."""


class AnswersError(HEError):
    """Answers that cannot be put together: too few, repeated, or for different keys."""


class ImplausibleSumError(HEError):
    """The answers agree, yet the sum exceeds the plan's bound: some client's data is at fault."""


class FaultyShareError(HEError):
    """Partial decryptions that do not belong together.

    `holders` are the numbers (1..n) of the liars when `certain`, otherwise of all suspects.
    """

    holders: tuple[int, ...]
    certain: bool

    def __init__(self, holders: Iterable[int], *, certain: bool = True) -> None:
        """Name the holders, in ascending order whatever the order given."""
        self.holders = tuple(sorted(holders))
        self.certain = certain
        role = "faulty" if certain else "suspect"
        super().__init__(f"{role} key holders: {', '.join(map(str, self.holders))}")


class CeremonyError(HEError):
    """A key ceremony that ended without a key; `holders` (1..n) are to blame, if any are known."""

    holders: tuple[int, ...]

    def __init__(self, message: str, holders: Iterable[int] = ()) -> None:
        """Keep the holders in ascending order beside the message."""
        self.holders = tuple(sorted(holders))
        super().__init__(message)
