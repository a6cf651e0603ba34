"""A client's configuration: its policy proves itself before anything is dialled."""

from pathlib import Path

import pytest

from secagg.client.config import load_client_settings
from secagg.errors import ConfigError

GOOD = """
identity = "me"
[coordinator]
address = "127.0.0.1:1"
[policy]
holders = ["north", "south", "east", "west"]
"""


def _file(directory: Path, text: str) -> Path:
    path = directory / "client.toml"
    path.write_text(text)
    return path


def test_what_is_left_out_is_as_the_policy_has_it(tmp_path: Path) -> None:
    settings = load_client_settings(_file(tmp_path, GOOD))
    policy = settings.policy.policy()
    assert policy.holders == {"north", "south", "east", "west"}
    assert (policy.min_contributors, policy.min_threshold, policy.max_clip) == (3, 3, float("inf"))
    assert settings.spool_dir is None
    assert settings.state_dir is None
    assert policy.min_corrupt_fraction == 0.05
    assert policy.engine == "numpy"
    assert policy.packings == {"coefficients"}


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("min_contributors = 1", "min_contributors 1"),
        ("corrupt_clients = 2", "2 corrupt clients"),
        ('engine = "seal"', "engine 'seal': choose one of numpy, tenseal"),
        ("min_holder = 4", "Did you mean min_holders"),
        ("holders = 3", "not TOML"),
    ],
)
def test_a_policy_that_protects_nobody_is_refused(tmp_path: Path, line: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load_client_settings(_file(tmp_path, GOOD + line))


def test_an_engine_is_chosen_by_its_name(tmp_path: Path) -> None:
    settings = load_client_settings(_file(tmp_path, GOOD + 'engine = "tenseal"'))
    assert settings.policy.policy().engine == "tenseal"


def test_slots_are_allowed_by_name(tmp_path: Path) -> None:
    settings = load_client_settings(_file(tmp_path, GOOD + 'packings = ["coefficients", "complex"]'))
    assert settings.policy.policy().packings == {"coefficients", "complex"}


def test_a_policy_without_key_holders_trusts_none(tmp_path: Path) -> None:
    """It is enough for jobs that run masking; a plan of ckks names holders that are not among them."""
    settings = load_client_settings(_file(tmp_path, GOOD.replace("holders =", "max_clip = 1.0 #")))
    assert settings.policy.policy().holders == frozenset()


SEVERAL = 'address = ["127.0.0.1:1", "b.example:2"]'


def test_several_coordinators_of_one_database(tmp_path: Path) -> None:
    one = load_client_settings(_file(tmp_path, GOOD)).coordinator
    assert (one.address, one.addresses) == ("127.0.0.1:1", ("127.0.0.1:1",))
    several = load_client_settings(_file(tmp_path, GOOD.replace('address = "127.0.0.1:1"', SEVERAL))).coordinator
    assert several.address == several.addresses == ("127.0.0.1:1", "b.example:2")


def test_several_coordinators_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECAGG_CLIENT_COORDINATOR__ADDRESS", '["a.example:1", "b.example:2"]')
    assert load_client_settings(_file(tmp_path, GOOD)).coordinator.addresses == ("a.example:1", "b.example:2")


@pytest.mark.parametrize(
    ("addresses", "said"),
    [
        ("[]", "or a list of them"),
        ("7443", "or a list of them"),
        ('["127.0.0.1:1", 7]', "or a list of them"),
        ('["127.0.0.1:1", "b.example"]', "give host:port"),
        ('["b.example:1", "b.example:1"]', "stands there twice"),
    ],
)
def test_addresses_that_are_none(tmp_path: Path, addresses: str, said: str) -> None:
    text = GOOD.replace('address = "127.0.0.1:1"', f"address = {addresses}")
    with pytest.raises(ConfigError, match=f"coordinator.address: .*{said}"):
        load_client_settings(_file(tmp_path, text))


def test_relative_directories_count_from_the_file(tmp_path: Path) -> None:
    settings = load_client_settings(_file(tmp_path, 'state_dir = "state"\nspool_dir = "spool"\n' + GOOD))
    assert (settings.state_dir, settings.spool_dir) == (tmp_path / "state", tmp_path / "spool")
