"""Logs: their form, and the net that keeps secrets out of them."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import structlog

from secagg import logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def _line(capsys: pytest.CaptureFixture[str], **values: Any) -> dict[str, Any]:
    logs.configure(form="json")
    structlog.get_logger().info("something happened", **values)
    line: dict[str, Any] = json.loads(capsys.readouterr().err)
    return line


def test_a_line_is_one_object_with_time_and_level(capsys: pytest.CaptureFixture[str]) -> None:
    line = _line(capsys, job="mnist", round=3)
    assert (line["event"], line["level"], line["job"], line["round"]) == ("something happened", "info", "mnist", 3)
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize(
    "name", ["seed", "share", "private_key", "passphrase", "update", "smudging_keys", "mean_values"]
)
def test_values_under_secret_names_are_dropped(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert _line(capsys, **{name: "hunter2"})[name] == logs.REDACTED


@pytest.mark.parametrize("name", ["total_weight", "shared_rounds", "updated_at", "keying_seconds", "key_id"])
def test_other_names_are_kept(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert _line(capsys, **{name: "kept"})[name] == "kept"


def test_arrays_never_reach_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    line = _line(capsys, values=np.array([0.12345, 0.54321]), one=np.float32(0.12345), deep={"list": [np.zeros(3)]})
    assert "0.12345" not in json.dumps(line)
    assert line["values"] == "<ndarray>"


def test_long_bytes_never_reach_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    line = _line(capsys, digest=b"\x01" * 32, chunk=b"\x02" * 65)
    assert line["digest"] == "01" * 32
    assert line["chunk"] == "<65 bytes>"


def test_secret_names_inside_tables_are_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    assert _line(capsys, details={"holder": "north", "seed": "hunter2"})["details"] == {
        "holder": "north",
        "seed": logs.REDACTED,
    }


def test_a_private_key_in_a_text_is_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    pem = "-----BEGIN PRIVATE KEY-----\nMIGHAgEA\n-----END PRIVATE KEY-----"
    assert "MIGHAgEA" not in json.dumps(_line(capsys, text=f"it was {pem}"))


def test_a_traceback_shows_no_local_variables(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(form="json")
    hidden = "hunter2"
    try:
        int(f"{len(hidden)}x")
    except ValueError:
        structlog.get_logger().exception("failed")
    out = capsys.readouterr().err
    assert "ValueError: invalid literal" in out
    assert "hunter2" not in out


def test_deep_values_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    deep: object = "bottom"
    for _ in range(20):
        deep = [deep]
    assert "bottom" not in json.dumps(_line(capsys, deep=deep))


def test_the_console_form_is_for_people_and_has_the_same_net(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(form="console")
    structlog.get_logger().warning("disk is filling", seed="hunter2", round=4)
    out = capsys.readouterr().err
    assert "disk is filling" in out
    assert "round=4" in out
    assert "hunter2" not in out


def test_the_level_holds(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(level="warning")
    structlog.get_logger().info("quiet")
    assert capsys.readouterr().err == ""


def test_other_libraries_log_in_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(form="json")
    logging.getLogger("alembic").warning("%s of %s", "one", "two")
    logging.getLogger("alembic").info("quiet")
    assert json.loads(capsys.readouterr().err)["event"] == "one of two"
