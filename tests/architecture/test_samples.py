"""Every sample of a configuration is one that the programs take."""

from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.config import load_coordinator_settings
from secagg.client.config import load_client_settings
from secagg.config import OperatorSettings, load_settings
from secagg.ids import NONCE_BYTES, RoundNumber
from secagg.job_file import load_job
from secagg.key_holder.config import load_key_holder_settings
from secagg.plan import MaskingRound, RoundPlan

SAMPLES = Path(__file__).resolve().parents[2] / "docs" / "samples"
LOADERS: dict[str, Callable[[Path], object]] = {
    "client.toml": load_client_settings,
    "coordinator.toml": load_coordinator_settings,
    "job-masking.toml": load_job,
    "job.toml": load_job,
    "key-holder.toml": load_key_holder_settings,
    "operator.toml": lambda path: load_settings(OperatorSettings, path, "SECAGG_OPERATOR_"),
}


def test_no_sample_goes_unread() -> None:
    assert {path.name for path in SAMPLES.iterdir()} == set(LOADERS)


@pytest.mark.parametrize("name", sorted(LOADERS))
def test_a_sample_is_accepted(name: str) -> None:
    assert LOADERS[name](SAMPLES / name)


def test_the_samples_fit_each_other() -> None:
    spec = load_job(SAMPLES / "job.toml")
    policy = load_client_settings(SAMPLES / "client.toml").policy.policy()
    assert set(spec.ckks.holders) == set(load_coordinator_settings(SAMPLES / "coordinator.toml").key_holders)
    assert set(spec.ckks.holders) <= policy.holders
    assert spec.min_contributors >= policy.min_contributors


def test_a_client_of_the_sample_may_take_part_in_the_masking_job_too() -> None:
    policy = load_client_settings(SAMPLES / "client.toml").policy.policy()
    spec = load_job(SAMPLES / "job-masking.toml")
    plan = RoundPlan(spec=spec, round=RoundNumber(1), protocol=MaskingRound(nonce=bytes(NONCE_BYTES)))
    policy.check(plan)
    assert policy.protocols == {"ckks", "masking"}
