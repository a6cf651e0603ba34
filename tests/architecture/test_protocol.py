"""`docs/protocol.md` against the code: what it names exists, what cites it finds its section, and its numbers are computed."""

from __future__ import annotations

import importlib
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from he.ciphertext import half_chunk_bytes
from he.moduli import PRESET_MODULI
from he.parameters import Parameters, preset
from secagg.catalogue import entry_for
from secagg.client.transfer import MAX_PART_BYTES

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "protocol.md").read_text()
HEADINGS = re.findall(r"^## (\d+)\. (.*)$", PAGE, flags=re.MULTILINE)
STEPS = re.findall(r"^\| (\d+\.\d) \|(.*)\|([^|]*)\|([^|]*)\|$", PAGE, flags=re.MULTILINE)
PARAGRAPHS = re.findall(r"^\*\*(\d+\.\d+) ", PAGE, flags=re.MULTILINE)
PROTO = "\n".join(path.read_text() for path in sorted((ROOT / "proto").rglob("*.proto")))
SOURCES = {
    path: path.read_text()
    for folder in ("he", "secagg", "coordinator")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
DEFINED = set(re.findall(r"^\s*(?:async )?(?:def|class) (\w+)", "\n".join(SOURCES.values()), flags=re.MULTILINE))
FIELDS = set(Parameters.__dataclass_fields__)


def section(number: int) -> str:
    return PAGE.split(f"\n## {number}. ")[1].split("\n## ")[0]


def named_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step[0])
def test_a_step_names_functions_and_messages_that_exist(step: tuple[str, str, str, str]) -> None:
    _, _, functions, messages = step
    for name in named_in(functions):
        if "." in name:
            importlib.import_module(name)
        else:
            assert name in DEFINED or f"rpc {name}(" in PROTO, name
    assert [name for name in named_in(messages) if f"message {name} {{" not in PROTO] == []


def test_every_call_of_a_round_stands_in_a_step() -> None:
    services = re.findall(r"service (?:Client|Masking|KeyHolder)Service \{(.*?)\n\}", PROTO, flags=re.DOTALL)
    calls = {name for service in services for name in re.findall(r"rpc (\w+)\(", service)}
    assert len(calls) > 24
    assert calls <= {name for step in STEPS for name in named_in(step[2])}


def test_the_names_of_digests_formulas_and_errors_exist() -> None:
    digests = [name for name in named_in(section(2)) if re.fullmatch(r"\w+\.\w+", name)]
    assert [name for name in digests if name.split(".")[1] not in DEFINED | {"payload"}] == []
    formulas = re.findall(r"\| `(\w+)` \|$", section(7), flags=re.MULTILINE)
    assert len(formulas) >= 8
    assert [name for name in formulas if name not in DEFINED | FIELDS] == []


def test_an_error_has_the_status_that_the_table_says() -> None:
    errors = importlib.import_module("secagg.errors")
    rows = re.findall(r"^\| (`\w+Error`[^|]*) \| ([A-Z_, ]+) \|", section(9), flags=re.MULTILINE)
    assert len(rows) >= 7
    for names, statuses in rows:
        known = [entry_for(getattr(errors, name)).status for name in named_in(names)]
        said = statuses.split(", ")
        assert known == (said if len(said) > 1 else said * len(known))


@pytest.mark.parametrize(
    "path",
    [path for path, text in SOURCES.items() if "docs/protocol.md" in text],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_who_cites_a_section_finds_it(path: Path) -> None:
    citations = re.findall(r"docs/protocol\.md`*,([^\n]*)", SOURCES[path])
    numbers = {number for number, _ in HEADINGS} | {step[0] for step in STEPS} | set(PARAGRAPHS)
    titles = [title.lower() for _, title in HEADINGS]
    for citation in citations:
        cited = re.findall(r"(?<![\d.])\d+\.\d+|(?<=sections )\d+|(?<=section )\d+", re.split("DESIGN|;", citation)[0])
        assert set(cited) <= numbers, citation
        for title in re.findall(r'section "([^"]+)"', citation):
            assert any(title.lower() in one for one in titles), citation


def test_the_table_of_errors_is_what_the_parameters_compute() -> None:
    pattern = r"^\| (\d+) \| (coefficients|real|complex) \| (\d+) \| 2\^(\S+) \| (\S+) \| (\S+) \| 2\^-(\S+) \|$"
    rows = re.findall(pattern, section(7), flags=re.MULTILINE)
    assert len(rows) == 6
    for clients, packing, word_bits, scale_bits, value_error, mean_error, hidden_bits in rows:
        count = int(clients)
        made = preset("ckks-4096", values=1_000_001, max_clients=count, holders=5, threshold=3, packing=packing)
        assert (made.smudging_word_bits, f"{math.log2(made.scale):.4g}") == (int(word_bits), scale_bits)
        assert f"{made.value_error(count):.1e}" == value_error
        assert f"{made.hidden_bits:.1f}" == hidden_bits
        assert f"{made.mean_error(count, count):.1e}" == mean_error


def test_the_table_of_bytes_is_what_the_code_sends() -> None:
    rows = re.findall(r"^\|.*\| ([\d,]+) \| ([\d,]+) \|$", section(8), flags=re.MULTILINE)
    for column, name in enumerate(PRESET_MODULI):
        made = preset(name, values=10, max_clients=2, holders=5, threshold=3)
        chunk, values = half_chunk_bytes(made), made.chunk_values
        public = 4 * len(made.key_primes) * made.degree
        told = [int(row[column].replace(",", "")) for row in rows]
        assert told == [chunk, values, 2 * chunk // values, chunk // values, public]
        if name == "ckks-4096":
            assert replace(made, packing="complex", scale=1.0).chunk_values == values
            assert replace(made, packing="real", scale=1.0).chunk_values == values // 2
    assert [MAX_PART_BYTES // int(row.replace(",", "")) for row in rows[0]] == [21, 5]
