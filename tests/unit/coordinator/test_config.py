"""The coordinator's configuration: what is refused, and what stands where when nothing is said."""

from pathlib import Path

import pytest

from coordinator.config import load_coordinator_settings
from secagg.errors import ConfigError

GOOD = """
identity = "me"
data_dir = "data"
[key_holders]
north = "127.0.0.1:1"
south = "127.0.0.1:2"
east = "127.0.0.1:3"
"""


def _file(directory: Path, text: str) -> Path:
    path = directory / "coordinator.toml"
    path.write_text(text)
    return path


def test_what_is_left_out_has_a_place(tmp_path: Path) -> None:
    settings = load_coordinator_settings(_file(tmp_path, GOOD))
    assert settings.resolved_database_url == f"sqlite:///{tmp_path}/data/coordinator.db"
    assert settings.blobs_directory == tmp_path / "data" / "blobs"
    assert settings.metrics_listen is None


def test_a_database_may_be_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECAGG_COORDINATOR_DATABASE_URL", "sqlite:////tmp/x.db")
    assert load_coordinator_settings(_file(tmp_path, GOOD)).resolved_database_url == "sqlite:////tmp/x.db"


def test_three_key_holders_are_the_fewest(tmp_path: Path) -> None:
    text = GOOD.replace('east = "127.0.0.1:3"', "")
    with pytest.raises(ConfigError, match=r"key_holders.*at least 3 key holders, or none"):
        load_coordinator_settings(_file(tmp_path, text))


def test_jobs_of_masking_need_no_key_holder(tmp_path: Path) -> None:
    text = GOOD[: GOOD.index("[key_holders]")]
    for given in (text, f"{text}[key_holders]\n"):
        assert load_coordinator_settings(_file(tmp_path, given)).key_holders == {}


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('"Not A Name" = "127.0.0.1:4"', "key_holders"),
        ('west = "nowhere"', "key_holders.west"),
        ("[limits]\nspool_bytes = 1", "limits.spool_bytes"),
        ("[limits]\nspool = 1", "limits.spool"),
        ('[log]\nformat = "xml"', "log.format"),
    ],
)
def test_a_value_that_does_not_fit_is_named(tmp_path: Path, line: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load_coordinator_settings(_file(tmp_path, GOOD + line))
