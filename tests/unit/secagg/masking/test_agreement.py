"""Keys depend on everything that must keep them apart, and on nothing else."""

from typing import Any

import pytest

from secagg.errors import MessageError, UsageError
from secagg.ids import ClientId, Digest
from secagg.masking.agreement import _LOW_ORDER as LOW_ORDER
from secagg.masking.agreement import (
    Agreements,
    agree,
    pair_mask_key,
    public_key,
    seed_commitment,
    self_mask_key,
    verify_public_key,
)

PLAN, ROSTER, OTHER = Digest(b"p" * 32), Digest(b"r" * 32), Digest(b"o" * 32)
ALICE, BOB, CAROL = ClientId("alice"), ClientId("bob"), ClientId("carol")
SEED = b"s" * 32
KEYS = {ALICE: b"a" * 32, BOB: b"b" * 32}


def pair(**changed: Any) -> bytes:
    context = {"plan_digest": PLAN, "roster_digest": ROSTER, "one": ALICE, "other": BOB} | changed
    return pair_mask_key(KEYS[ALICE], public_key(KEYS[BOB]), **context)


def test_both_ends_have_one_key_whoever_is_named_first() -> None:
    there = pair_mask_key(
        KEYS[BOB], public_key(KEYS[ALICE]), plan_digest=PLAN, roster_digest=ROSTER, one=BOB, other=ALICE
    )
    assert there == pair() == pair(one=BOB, other=ALICE)


@pytest.mark.parametrize(
    "changed", [{"plan_digest": OTHER}, {"roster_digest": OTHER}, {"one": CAROL}, {"other": CAROL}]
)
def test_a_pair_mask_belongs_to_one_plan_roster_and_pair(changed: dict[str, Any]) -> None:
    assert pair(**changed) != pair()


def test_names_that_run_together_are_told_apart() -> None:
    assert pair(one=ClientId("ab"), other=ClientId("c")) != pair(one=ClientId("a"), other=ClientId("bc"))


def test_nobody_has_a_pair_mask_with_itself() -> None:
    with pytest.raises(UsageError, match="alice"):
        pair(other=ALICE)


@pytest.mark.parametrize("changed", [{"plan_digest": OTHER}, {"roster_digest": OTHER}, {"client": BOB}])
def test_a_self_mask_belongs_to_one_plan_roster_and_client(changed: dict[str, Any]) -> None:
    context: dict[str, Any] = {"plan_digest": PLAN, "roster_digest": ROSTER, "client": ALICE}
    assert self_mask_key(SEED, **context | changed) != self_mask_key(SEED, **context)
    assert self_mask_key(b"t" * 32, **context) != self_mask_key(SEED, **context)


@pytest.mark.parametrize("changed", [{"plan_digest": OTHER}, {"client": BOB}])
def test_a_commitment_belongs_to_one_plan_and_client(changed: dict[str, Any]) -> None:
    context: dict[str, Any] = {"plan_digest": PLAN, "client": ALICE}
    assert seed_commitment(SEED, **context | changed) != seed_commitment(SEED, **context)
    assert seed_commitment(b"t" * 32, **context) != seed_commitment(SEED, **context)


@pytest.mark.parametrize("point", [*sorted(LOW_ORDER), 2**255 - 19, 2**255 - 18])
def test_points_of_low_order_are_refused(point: int) -> None:
    """With each of them every private key gives the same secret: zero."""
    with pytest.raises(MessageError):
        agree(KEYS[ALICE], point.to_bytes(32, "little"))
    with pytest.raises(MessageError):
        verify_public_key(point.to_bytes(32, "little"))


def test_no_other_point_is_of_low_order() -> None:
    """Doubled thrice, a point is infinity: its x is among the roots of a chain of equations, which have no more roots than these."""
    prime, a = 2**255 - 19, 486662

    def doubled(x: int) -> int | None:
        below = 4 * x * (x * x + a * x + 1) % prime
        return (x * x - 1) ** 2 * pow(below, -1, prime) % prime if below else None

    chains = {x: doubled(x) for x in LOW_ORDER}
    of_order_two = {x for x, double in chains.items() if double is None}
    of_order_four = {x for x, double in chains.items() if double in of_order_two}
    of_order_eight = {x for x, double in chains.items() if double in of_order_four}
    # x^2 + ax + 1 = 0, the other points of order two, would take a root of a^2 - 4.
    assert of_order_two == {0}
    assert pow(a * a - 4, (prime - 1) // 2, prime) == prime - 1
    # (x^2 - 1)^2 = 0 has these two roots.
    assert of_order_four == {1, prime - 1}
    # x(2P) = 1 is (x - 1)^4 = 4(a + 2)x^2: two quadratic equations, of which one has roots. x(2P) = -1 is (x + 1)^4 = 4(2 - a)x^2.
    assert pow(4 * (2 - a), (prime - 1) // 2, prime) == prime - 1
    root = pow(4 * (a + 2), (prime + 3) // 8, prime)
    root = root if root * root % prime == 4 * (a + 2) % prime else root * pow(2, (prime - 1) // 4, prime) % prime
    assert root * root % prime == 4 * (a + 2) % prime
    found = [x for x in of_order_eight if any((x * x - (2 + sign * root) * x + 1) % prime == 0 for sign in (1, -1))]
    assert len(found) == len(of_order_eight) == 2
    squares = [pow((2 + sign * root) ** 2 - 4, (prime - 1) // 2, prime) for sign in (1, -1)]
    assert sorted(squares) == [1, prime - 1]
    assert len(LOW_ORDER) == 5


@pytest.mark.parametrize("length", [0, 31, 33])
def test_public_keys_of_another_length_are_refused(length: int) -> None:
    with pytest.raises(MessageError):
        verify_public_key(b"\x09" * length)


def test_an_honest_public_key_is_accepted() -> None:
    verify_public_key(public_key(KEYS[BOB]))


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_keys_and_seeds_of_another_length_are_refused(length: int) -> None:
    with pytest.raises(UsageError, match="32 bytes"):
        public_key(bytes(length))
    with pytest.raises(UsageError, match="32 bytes"):
        agree(bytes(length), public_key(KEYS[BOB]))
    with pytest.raises(UsageError, match="32 bytes"):
        self_mask_key(bytes(length), plan_digest=PLAN, roster_digest=ROSTER, client=ALICE)


@pytest.mark.parametrize("number", [2**255 - 19, 2**255 - 18, 2**255 + 9, 2**256 - 1])
def test_second_forms_of_a_key_are_refused(number: int) -> None:
    """X25519 takes them, so that a copied key could be shown in another form (RFC 7748, section 5)."""
    with pytest.raises(MessageError, match="canonical"):
        verify_public_key(number.to_bytes(32, "little"))


def test_a_key_that_remembers_agrees_as_every_other_and_shows_nothing() -> None:
    own, peers = b"c" * 32, [public_key(key) for key in KEYS.values()]
    remembering = Agreements(own)
    for _ in range(2):
        assert [agree(remembering, peer) for peer in peers] == [agree(own, peer) for peer in peers]
    with pytest.raises(MessageError):
        agree(remembering, bytes(32))
    shown = repr(remembering)
    assert all(secret.hex() not in shown and repr(secret) not in shown for secret in (own, agree(own, peers[0])))
    with pytest.raises(UsageError):
        Agreements(b"short")
