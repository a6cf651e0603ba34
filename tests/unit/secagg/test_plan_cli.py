"""`secagg plan masking` as a person and as a script use it."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from secagg.cli.main import app
from secagg.masking.planner import plan_numbers

RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


def _run(*arguments: str) -> Result:
    return RUNNER.invoke(app, ["plan", "masking", *arguments])


def _figures(*arguments: str) -> dict[str, Any]:
    done = _run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


THOUSAND = ("--clients", "1000", "--corrupt", "0.05", "--dropout", "0.1", "--values", "1000000")


def test_a_ring_is_shown_with_its_chances_bytes_and_proof() -> None:
    done = _run(*THOUSAND)
    assert done.exit_code == 0
    numbers = plan_numbers(1000, corrupt_fraction=0.05, dropout_fraction=0.1, min_contributors=900)
    for words in (
        f"{numbers.neighbours}",
        f"{numbers.threshold} shares",
        "526 clients sign the same survivors",
        "chance below 2^-104.1 (2^-100 is allowed)",
        "chance below 2^-20.5 (2^-20 is allowed)",
        "1,000, at least 526 in a sum",
        "vector of 1,000,000 values and the weight 3,750,004",
        "not counted: signatures, names, framing, TLS",
        "1,000 clients x (2^20 - 1) = 1,048,575,000 < 2^30",
    ):
        assert words in done.stdout, words


def test_a_script_gets_the_same_as_numbers() -> None:
    figures = _figures(*THOUSAND)
    assert (figures["corrupt"], figures["dropped"], figures["quorum"]) == (50, 100, 526)
    assert figures["graph"] == "ring"
    assert -105 < figures["split_tail_log2"] <= -100
    assert -21 < figures["availability_tail_log2"] <= -20
    assert (figures["bits_per_value"], figures["bytes_per_value"], figures["values"]) == (30, 3.75, 1_000_000)
    up, k = figures["bytes_up"], figures["neighbours"]
    assert (up["keys"], up["sealed_shares"], up["revealed_shares"]) == (96, 88 * k, 36 * k)
    assert up["vector"] == -(-1_000_001 * 30 // 8)
    assert up["total"] == sum(size for name, size in up.items() if name != "total")


def test_few_clients_all_neighbour_each_other_and_nothing_is_left_to_chance() -> None:
    figures = _figures("--clients", "20", "--values", "100")
    assert figures["graph"] == "complete"
    assert (figures["neighbours"], figures["threshold"]) == (19, 11)
    assert figures["split_tail_log2"] is None
    shown = _run("--clients", "20", "--values", "100").stdout
    assert "19, everyone" in shown
    assert "impossible (2^-100 is allowed)" in shown


def test_the_fewest_contributors_and_the_bits_can_be_chosen() -> None:
    arguments = ("--clients", "20", "--values", "100", "--dropout", "0.3")
    assert (_figures(*arguments)["min_contributors"], _figures(*arguments)["dropped"]) == (11, 6)
    chosen = _figures(*arguments, "--min-contributors", "18", "--value-bits", "16")
    assert (chosen["min_contributors"], chosen["dropped"]) == (18, 2), "below 18 the round ends anyway"
    assert (chosen["value_bits"], chosen["bits_per_value"]) == (16, 21)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--clients", "20", "--values", "9", "--dropout", "0.45"), "lower dropout_fraction to 0.4"),
        (("--clients", "20", "--values", "9", "--corrupt", "0.6"), "corrupt_fraction is 0.6"),
        (("--clients", "20", "--values", "9", "--dropout", "-1"), "dropout_fraction is -1"),
        (
            ("--clients", "20", "--values", "9", "--min-contributors", "21"),
            "20 clients are fewer than min_contributors 21",
        ),
        (("--clients", "20", "--values", "9", "--min-contributors", "2"), "raise min_contributors to 3"),
        (("--clients", "1000", "--values", "9", "--value-bits", "30"), "lower value_bits to 22"),
        (("--clients", "1000", "--values", "9", "--value-bits", "0"), "value_bits is 0"),
    ],
)
def test_what_cannot_be_is_an_error_with_a_way_out(arguments: tuple[str, ...], named: str) -> None:
    failed = _run(*arguments)
    assert failed.exit_code == 1
    assert failed.stdout == ""
    cause, next_step = failed.stderr.splitlines()
    assert named in cause
    assert next_step.startswith("next step: ")


def test_plan_alone_shows_its_protocols() -> None:
    assert "masking" in RUNNER.invoke(app, ["plan", "--help"]).output
