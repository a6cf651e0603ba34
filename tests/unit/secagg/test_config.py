"""Configuration: what is read, what overrides what, and errors that name file, key and way out."""

from pathlib import Path

import pytest

from secagg.config import OperatorSettings, Settings, SettingsPath, load_settings
from secagg.errors import ConfigError

PREFIX = "SECAGG_TEST_"
GOOD = 'identity = "me"\n[coordinator]\naddress = "127.0.0.1:7443"\n'


class _Limits(Settings):
    bytes: int = 1
    names: tuple[str, ...] = ()


class _Sample(Settings):
    directory: SettingsPath = Path("data")
    limits: _Limits = _Limits()


def _file(directory: Path, text: str) -> Path:
    path = directory / "sample.toml"
    path.write_text(text)
    return path


def _error(model: type[Settings], path: Path | None, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(model, path, PREFIX, environment=environment or {})
    return str(caught.value)


def test_a_file_is_read_and_relative_paths_count_from_its_directory(tmp_path: Path) -> None:
    settings = load_settings(OperatorSettings, _file(tmp_path, GOOD), PREFIX, environment={})
    assert settings.identity == tmp_path / "me"
    assert (settings.coordinator.address, settings.coordinator.name) == ("127.0.0.1:7443", "coordinator")


def test_the_environment_overrides_nested_keys(tmp_path: Path) -> None:
    path = _file(tmp_path, "[limits]\nbytes = 2\n")
    environment = {f"{PREFIX}LIMITS__BYTES": "3", f"{PREFIX}LIMITS__NAMES": '["a", "b"]', "OTHER": "x"}
    settings = load_settings(_Sample, path, PREFIX, environment=environment)
    assert settings.limits == _Limits(bytes=3, names=("a", "b"))


def test_everything_may_come_from_the_environment(tmp_path: Path) -> None:
    environment = {f"{PREFIX}IDENTITY": str(tmp_path), f"{PREFIX}COORDINATOR__ADDRESS": "host:1"}
    settings = load_settings(OperatorSettings, None, PREFIX, environment=environment)
    assert settings.coordinator.address == "host:1"


def test_the_variable_that_names_the_file_is_no_key() -> None:
    assert load_settings(_Sample, None, PREFIX, environment={f"{PREFIX}CONFIG": "x.toml"}).limits == _Limits()


def test_settings_cannot_be_changed() -> None:
    settings = load_settings(_Sample, None, PREFIX, environment={})
    with pytest.raises(ValueError, match="frozen"):
        settings.limits = _Limits()  # type: ignore[misc]


def test_a_missing_file_says_where_samples_are(tmp_path: Path) -> None:
    message = _error(_Sample, tmp_path / "none.toml")
    assert "none.toml" in message
    assert "docs/samples" in message


def test_a_syntax_error_names_file_and_line(tmp_path: Path) -> None:
    message = _error(_Sample, _file(tmp_path, "limits = \n"))
    assert "sample.toml is not TOML" in message
    assert "line 1" in message


def test_an_unknown_key_is_refused_and_the_nearest_named(tmp_path: Path) -> None:
    message = _error(_Sample, _file(tmp_path, "[limits]\nbites = 1\n"))
    assert "sample.toml: limits.bites is not a setting" in message
    assert "Did you mean bytes?" in message


def test_an_unknown_variable_is_refused_by_its_own_name() -> None:
    message = _error(_Sample, None, {f"{PREFIX}QUITE_WRONG": "1"})
    assert f"{PREFIX}QUITE_WRONG is not a setting" in message
    assert "directory, limits" in message


def test_a_missing_key_names_key_and_variable(tmp_path: Path) -> None:
    message = _error(OperatorSettings, _file(tmp_path, 'identity = "me"\n'))
    assert "coordinator is missing" in message
    assert f"{PREFIX}COORDINATOR" in message


@pytest.mark.parametrize("address", ["here", ":1", "host:", "host:70000", "host:x"])
def test_an_address_needs_host_and_port(tmp_path: Path, address: str) -> None:
    message = _error(OperatorSettings, _file(tmp_path, GOOD.replace("127.0.0.1:7443", address)))
    assert "coordinator.address: give host:port" in message


def test_a_wrong_value_names_the_variable_and_is_not_shown() -> None:
    message = _error(_Sample, None, {f"{PREFIX}LIMITS__BYTES": "hunter2"})
    assert f"{PREFIX}LIMITS__BYTES" in message
    assert "hunter2" not in message


def test_a_party_name_follows_the_certificates_syntax(tmp_path: Path) -> None:
    message = _error(OperatorSettings, _file(tmp_path, GOOD + 'name = "Not A Name"\n'))
    assert "coordinator.name" in message


def test_a_list_in_the_environment_must_be_toml() -> None:
    assert "neither a list nor a table" in _error(_Sample, None, {f"{PREFIX}LIMITS__NAMES": "[a"})


def test_a_variable_cannot_reach_into_a_value(tmp_path: Path) -> None:
    message = _error(_Sample, _file(tmp_path, 'directory = "x"\n'), {f"{PREFIX}DIRECTORY__DEEP": "1"})
    assert "directory is not a table" in message
