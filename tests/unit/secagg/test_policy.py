from dataclasses import replace

import pytest

from he import encrypt
from he.parameters import PACKINGS
from secagg.errors import PolicyError
from secagg.ids import HolderId, JobId, KeyId, RoundNumber
from secagg.plan import CeremonyPlan, CkksJob, CkksRound, JobSpec, RoundPlan, TensorSpec
from secagg.policy import ENGINES, ClientPolicy, HolderPolicy

HOLDERS = tuple(HolderId(f"holder-{i}") for i in range(1, 6))
CLIENT = ClientPolicy(holders=frozenset(HOLDERS))


def a_plan(*, count: int = 5, ckks: dict[str, object] | None = None, **changes: object) -> RoundPlan:
    protocol = replace(CkksJob(holders=HOLDERS), **(ckks or {}))  # type: ignore[arg-type]
    fields: dict[str, object] = {
        "job": JobId("digits"),
        "tensors": (TensorSpec(name="weight", shape=(20, 10), dtype="float32"),),
        "protocol": protocol,
        "min_contributors": 3,
        "max_clients": 10,
        "purpose": "a test",
    }
    spec = JobSpec(**(fields | changes))  # type: ignore[arg-type]
    group = protocol.group(protocol.holders[:count])
    return RoundPlan(spec=spec, round=RoundNumber(1), protocol=CkksRound(key_id=KeyId(bytes(32)), group=group))


def a_ceremony(plan: RoundPlan) -> CeremonyPlan:
    return CeremonyPlan(spec=plan.spec, round=plan.round, attempt=1, group=plan.ckks.group)


def test_a_plan_as_strong_as_the_policies_passes() -> None:
    plan = a_plan()
    CLIENT.check(plan)
    HolderPolicy(holders=frozenset(HOLDERS)).check_ceremony(a_ceremony(plan))
    assert plan.spec.min_contributors == CLIENT.min_contributors


@pytest.mark.parametrize(
    ("policy", "named"),
    [
        ({"min_contributors": 4}, "contributors"),
        ({"max_clip": 0.5}, "clip"),
        ({"protocols": frozenset({"masking"})}, "protocol"),
        ({"presets": frozenset({"ckks-8192"})}, "preset"),
        ({"packings": frozenset({"complex"})}, r"packing 'coefficients' is not one of \['complex'\]"),
        ({"packings": frozenset()}, r"packing 'coefficients' is not one of \[\]"),
        ({"min_security_bits": 41}, "security_bits"),
        ({"holders": frozenset(HOLDERS[1:])}, "holder-1"),
        ({"min_holders": 6}, "key holders"),
        ({"min_threshold": 4}, "open"),
        ({"min_corrupt_holders": 3}, "corrupt"),
    ],
)
def test_a_client_refuses_what_is_weaker_and_says_what(policy: dict[str, object], named: str) -> None:
    with pytest.raises(PolicyError, match=named):
        replace(CLIENT, **policy).check(a_plan())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("policy", "named"),
    [
        ({"min_contributors": 4}, "contributors"),
        ({"presets": frozenset({"ckks-8192"})}, "preset"),
        ({"packings": frozenset({"real"})}, "packing 'coefficients' is not"),
        ({"min_security_bits": 41}, "security_bits"),
        ({"holders": frozenset(HOLDERS[1:])}, "holder-1"),
        ({"min_holders": 6}, "key holders"),
        ({"min_threshold": 4}, "open"),
        ({"min_corrupt_holders": 3}, "corrupt"),
        ({"max_values": 199}, "values"),
    ],
)
def test_a_key_holder_refuses_what_is_weaker_and_says_what(policy: dict[str, object], named: str) -> None:
    with pytest.raises(PolicyError, match=named):
        replace(HolderPolicy(), **policy).check_ceremony(a_ceremony(a_plan()))  # type: ignore[arg-type]


def test_a_group_without_one_holder_counts_as_it_is() -> None:
    with pytest.raises(PolicyError, match="4 key holders"):
        replace(CLIENT, min_holders=5).check(a_plan(count=4))


@pytest.mark.parametrize("numbers", [{"min_contributors": 1}, {"min_contributors": 3, "corrupt_clients": 2}])
def test_a_policy_leaves_two_honest_contributors(numbers: dict[str, int]) -> None:
    with pytest.raises(PolicyError, match="honest"):
        ClientPolicy(holders=frozenset(HOLDERS), **numbers)  # type: ignore[arg-type]


def test_a_policy_knows_the_engines_that_there_are() -> None:
    assert (ClientPolicy.engine, ENGINES) == ("numpy", encrypt.ENGINES)
    assert [ClientPolicy(engine=engine).engine for engine in ENGINES] == [*ENGINES]
    with pytest.raises(PolicyError, match="engine 'seal': choose one of numpy, tenseal"):
        ClientPolicy(engine="seal")


@pytest.mark.parametrize("policy", [ClientPolicy, HolderPolicy])
def test_a_policy_knows_the_packings_that_there_are(policy: type[ClientPolicy | HolderPolicy]) -> None:
    assert policy(packings=frozenset(PACKINGS)).packings == set(PACKINGS)
    with pytest.raises(PolicyError, match=r"packings \['coeficients'\]: choose of coefficients, complex, real"):
        policy(packings=frozenset({"real", "coeficients"}))


def test_a_negative_number_of_corrupt_clients_is_no_trick() -> None:
    with pytest.raises(PolicyError, match="corrupt_clients"):
        ClientPolicy(holders=frozenset(HOLDERS), min_contributors=1, corrupt_clients=-1)
