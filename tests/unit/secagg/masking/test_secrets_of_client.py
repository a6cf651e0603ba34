"""A client's secrets: repeatable from the seed, apart from each other, and never shown."""

import pytest

from secagg.errors import UsageError
from secagg.ids import ClientId, Digest
from secagg.masking.agreement import public_key, seed_commitment
from secagg.masking.secrets_of_client import ClientSecrets

PLAN, ALICE = Digest(b"p" * 32), ClientId("alice")
SEED = b"m" * 32
USES = ["mask_private", "share_private", "self_seed", "quantising_key", "dealing_key"]


def values(seed: bytes = SEED, plan: Digest = PLAN, client: ClientId = ALICE) -> list[bytes]:
    secrets = ClientSecrets.of(seed, plan_digest=plan, client=client)
    return [getattr(secrets, use) for use in USES]


def test_a_restarted_client_draws_the_same() -> None:
    assert values() == values()


def test_no_two_uses_clients_plans_or_seeds_share_a_secret() -> None:
    drawn = [*values(), *values(seed=b"n" * 32), *values(plan=Digest(b"q" * 32)), *values(client=ClientId("bob"))]
    assert len(set(drawn)) == 20
    assert all(len(secret) == 32 for secret in drawn)


def test_what_is_published_belongs_to_what_is_kept() -> None:
    secrets = ClientSecrets.of(SEED, plan_digest=PLAN, client=ALICE)
    assert secrets.mask_public == public_key(secrets.mask_private)
    assert secrets.share_public == public_key(secrets.share_private)
    assert secrets.commitment == seed_commitment(secrets.self_seed, plan_digest=PLAN, client=ALICE)


def test_nothing_shows_a_secret() -> None:
    secrets = ClientSecrets.of(SEED, plan_digest=PLAN, client=ALICE)
    shown = f"{secrets!r} {secrets!s}"
    assert not any(repr(getattr(secrets, use))[2:-1] in shown or getattr(secrets, use).hex() in shown for use in USES)
    assert not hasattr(secrets, "__dict__")


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_seed_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(UsageError, match="32 bytes"):
        values(seed=bytes(length))
