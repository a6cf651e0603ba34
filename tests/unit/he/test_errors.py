"""Errors carry who is to blame."""

from he.errors import CeremonyError, FaultyShareError


def test_faulty_shares_are_named_in_order() -> None:
    error = FaultyShareError([4, 2])
    assert (error.holders, error.certain) == ((2, 4), True)
    assert str(error) == "faulty key holders: 2, 4"
    assert str(FaultyShareError([1], certain=False)) == "suspect key holders: 1"


def test_failed_ceremony_keeps_message_and_holders() -> None:
    error = CeremonyError("trial answers disagree", [3, 1])
    assert (str(error), error.holders) == ("trial answers disagree", (1, 3))
    assert CeremonyError("nobody known").holders == ()
