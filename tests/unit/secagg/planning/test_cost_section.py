"""`docs/protocol.md`, section 13, against the code: what it names exists, and its numbers are computed."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from secagg.identity import Role
from secagg.planning import calibration, client_bytes, holder_bytes, memory, seconds, sizes
from secagg.planning.forecast import Ckks, forecast_ckks, forecast_masking
from secagg.planning.question import Question

SECTION = (Path(__file__).parents[4] / "docs" / "protocol.md").read_text().split("## 13. What a round costs")[1]
SECTION = SECTION.split("\n## ")[0]


def test_the_functions_that_it_names_exist() -> None:
    named = re.findall(r"`(\w+_(?:client|traffic|work|bytes))`", SECTION)
    assert len(named) == 7
    found = [
        module for name in named for module in (client_bytes, holder_bytes, memory, seconds) if hasattr(module, name)
    ]
    assert len(found) == len(named)


def test_every_rate_that_is_measured_is_in_a_formula() -> None:
    rates = {
        one.name
        for kind in (calibration.CkksRates, calibration.MaskingRates, calibration.SharedRates)
        for one in fields(kind)
    }
    table = SECTION.split("**13.3")[1].split("**13.4")[0]
    assert {rate for rate in rates if not re.search(rf"\b{rate}\b", table)} == {"encrypt_one_core"}


def test_its_table_is_what_the_command_prints() -> None:
    rows = re.findall(r"^\| ([\d,]+) \| `(\w+)` \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", SECTION, flags=re.MULTILINE)
    assert len(rows) == 6
    for clients, protocol, *told in rows:
        question = Question(clients=int(clients.replace(",", "")), values=1_000_000)
        made = forecast_ckks(question, Ckks()) if protocol == "ckks" else forecast_masking(question)
        mebibytes = round(made.memory_bytes / 1024**2)
        assert told == [f"{one:,}" for one in (made.client.total_up, made.client.total_down, mebibytes)], (
            clients,
            protocol,
        )


def test_its_constants_are_the_codes() -> None:
    for number in (sizes.CONNECTION_UP, sizes.CONNECTION_DOWN, sizes.CALL_UP, sizes.CALL_DOWN, sizes.SIGNATURE_BYTES):
        assert f"{number:,}" in SECTION
    assert f"{sizes.RETURN_SHARE * 100:g} %" in SECTION
    assert f"{client_bytes.CKKS_CALLS} calls (`ckks`) or {client_bytes.MASKING_CALLS} (`masking`)" in SECTION
    for role in (Role.CLIENT, Role.KEY_HOLDER):
        fixed, each = (
            sizes.certificate_bytes(role, 0),
            sizes.certificate_bytes(role, 1) - sizes.certificate_bytes(role, 0),
        )
        assert f"{fixed} + {each} · name" in SECTION
