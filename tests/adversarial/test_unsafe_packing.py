"""A coordinator that plans a round in slots, so that the opening shows it how single clients' values were rounded."""

from __future__ import annotations

import secrets
from dataclasses import replace

import pytest

from he.parameters import PACKINGS
from secagg.errors import PolicyError
from secagg.ids import KeyId
from secagg.plan import CkksJob, CkksRound, JobSpec, RoundPlan
from secagg.policy import HolderPolicy
from secagg.roles.client import rules
from secagg.roles.client.state import ClientPhase
from secagg.roles.key_holder import ceremony
from secagg.roles.key_holder.events import BeginCeremony
from secagg.roles.key_holder.state import New
from tests.client_material import POLICY, offer, start
from tests.holder_material import ALL_HOLDERS, ceremony_plan, job_spec

SLOTS = ("complex", "real")
SHOWN = "which shows the coordinator how each client's values were rounded"


def in_slots(packing: str) -> JobSpec:
    usual = job_spec()
    assert isinstance(usual.protocol, CkksJob)
    return replace(usual, protocol=replace(usual.protocol, packing=packing))


@pytest.mark.parametrize("packing", SLOTS)
def test_a_client_takes_no_part_in_a_round_that_shows_its_roundings(packing: str) -> None:
    """The key is one that its key holders made: nothing but the packing is wrong."""
    offered = offer(in_slots(packing), HolderPolicy(packings=frozenset(SLOTS)))
    with pytest.raises(PolicyError, match=f"packing '{packing}', {SHOWN}") as refused:
        rules.step(start(), offered)
    assert f"Ask for a job with packing 'coefficients', or name '{packing}' in packings" in str(refused.value)
    willing = start(policy=replace(POLICY, packings=frozenset({packing})))
    assert rules.step(willing, offered).state.phase is ClientPhase.KEY_CHECKED


@pytest.mark.parametrize("packing", SLOTS)
def test_a_key_holder_makes_no_key_for_a_round_that_shows_roundings(packing: str) -> None:
    begin = BeginCeremony(plan=ceremony_plan(in_slots(packing)), seed=secrets.token_bytes(32))
    with pytest.raises(PolicyError, match=f"packing '{packing}', {SHOWN}"):
        ceremony.step(New(holder=ALL_HOLDERS[0], policy=HolderPolicy()), begin)
    willing = New(holder=ALL_HOLDERS[0], policy=HolderPolicy(packings=frozenset({packing})))
    assert ceremony.step(willing, begin).effects


def at_8192(packing: str) -> JobSpec:
    """A job as an older version made it: the true split of a sum could be told (test_encryptor_rounding)."""
    usual = in_slots(packing)
    return replace(usual, protocol=replace(usual.ckks, preset="ckks-8192"))


@pytest.mark.parametrize("packing", SLOTS)
def test_no_policy_allows_slots_that_hide_nothing(packing: str) -> None:
    anything = frozenset(PACKINGS)
    with pytest.raises(PolicyError, match="shows how the values of single clients were rounded"):
        HolderPolicy(packings=anything).check_ceremony(ceremony_plan(at_8192(packing)))
    plan = ceremony_plan(at_8192(packing))
    round_plan = RoundPlan(
        spec=plan.spec, round=plan.round, protocol=CkksRound(key_id=KeyId(bytes(32)), group=plan.group)
    )
    with pytest.raises(PolicyError, match="shows how the values of single clients were rounded"):
        replace(POLICY, packings=anything).check(round_plan)
