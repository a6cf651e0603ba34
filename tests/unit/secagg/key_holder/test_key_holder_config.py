"""The configuration of a key holder."""

from pathlib import Path

import pytest

from secagg.config import load_settings
from secagg.errors import ConfigError
from secagg.ids import HolderId
from secagg.key_holder.config import ENV_PREFIX, KeyHolderSettings, PolicySettings
from secagg.policy import HolderPolicy

LEAST = 'identity = "pki"\ndata_dir = "data"\n[sealing]\n'


def read(tmp_path: Path, text: str, environment: dict[str, str] | None = None) -> KeyHolderSettings:
    path = tmp_path / "key-holder.toml"
    path.write_text(text)
    return load_settings(KeyHolderSettings, path, ENV_PREFIX, environment=environment or {})


def test_paths_count_from_the_file(tmp_path: Path) -> None:
    settings = read(tmp_path, LEAST + 'key_file = "sealing.key"\n')
    assert settings.data_dir == tmp_path / "data"
    assert settings.sealing.key_file == tmp_path / "sealing.key"


def test_a_passphrase_comes_from_the_environment_and_never_shows(tmp_path: Path) -> None:
    environment = {"SECAGG_KEY_HOLDER_SEALING__PASSPHRASE": "correct horse battery"}
    settings = read(tmp_path, LEAST, environment)
    assert "horse" not in repr(settings)
    assert settings.sealing.secret().passphrase == b"correct horse battery"


@pytest.mark.parametrize("sealing", ["", 'key_file = "a"\npassphrase = "correct horse battery"\n'])
def test_exactly_one_thing_seals(tmp_path: Path, sealing: str) -> None:
    with pytest.raises(ConfigError, match="exactly one"):
        read(tmp_path, LEAST + sealing)


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a setting"):
        read(tmp_path, LEAST + 'key_file = "a"\n[limits]\nround = 3\n')


def test_the_policy_is_the_roles_own() -> None:
    assert PolicySettings().policy() == HolderPolicy()
    assert PolicySettings().policy().packings == {"coefficients"}
    assert PolicySettings.model_validate({"packings": ["real"]}).policy().packings == {"real"}
    policy = PolicySettings.model_validate({"holders": ["north", "east"], "min_contributors": 5}).policy()
    assert policy == HolderPolicy(holders=frozenset({HolderId("north"), HolderId("east")}), min_contributors=5)
