"""``secagg plan``: what a protocol's numbers come to, before a job asks for them. Needs no service and no certificate."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secagg.cli.errors import friendly_errors
from secagg.cli.operator_access import AsJson

if TYPE_CHECKING:
    from rich.table import Table

    from secagg.masking.parameters import MaskingParameters
    from secagg.masking.planner import Numbers

app = typer.Typer(no_args_is_help=True, help="Work out a protocol's numbers before a job asks for them.")


@app.callback()
def plan() -> None:
    """Keep `plan` a group while it holds one command."""


@app.command()
@friendly_errors
def masking(
    clients: Annotated[int, typer.Option(min=2, help="Clients in the frozen roster.")],
    values: Annotated[int, typer.Option(min=1, help="Coordinates of an update; the weight is one more.")],
    corrupt: Annotated[float, typer.Option(help="Fraction of clients that may work with the coordinator.")] = 0.05,
    dropout: Annotated[float, typer.Option(help="Fraction of clients that may vanish, at any moment.")] = 0.1,
    min_contributors: Annotated[
        int | None, typer.Option(min=2, help="Fewest clients in a sum. Without: as many as must confirm anyway.")
    ] = None,
    value_bits: Annotated[
        int | None, typer.Option(help="Bits of one quantised coordinate, 1 to 31. Without: 20.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the neighbours, thresholds, bits and bytes of a masking round, and that no sum overflows."""
    from secagg.masking.parameters import DEFAULT_VALUE_BITS, MaskingParameters
    from secagg.masking.planner import plan_numbers, verify_numbers

    least = _least(clients, corrupt, dropout) if min_contributors is None else min_contributors
    numbers = plan_numbers(clients, corrupt_fraction=corrupt, dropout_fraction=dropout, min_contributors=least)
    verify_numbers(numbers, corrupt_fraction=corrupt, min_contributors=least)
    parameters = MaskingParameters(
        values=values + 1,
        max_clients=clients,
        clip=1.0,
        value_bits=DEFAULT_VALUE_BITS if value_bits is None else value_bits,
    )
    figures = _figures(numbers, parameters, least)
    if as_json:
        typer.echo(json.dumps(figures, indent=2))
        return
    from rich.console import Console

    Console().print(_table(figures))


def _least(clients: int, corrupt: float, dropout: float) -> int:
    """As many as have to confirm anyway, and never more than are left."""
    from secagg.masking.planner import corrupt_count, dropped_count, quorum_of

    return min(clients - dropped_count(clients, dropout, 0), quorum_of(clients, corrupt_count(clients, corrupt)))


def _figures(numbers: Numbers, parameters: MaskingParameters, min_contributors: int) -> dict[str, Any]:
    from secagg.masking.planner import AVAILABILITY_BITS, SPLIT_BITS, availability_tail, split_tail

    ring = not numbers.complete
    return {
        "clients": numbers.clients,
        "corrupt": numbers.corrupt,
        "dropped": numbers.dropped,
        "min_contributors": min_contributors,
        "graph": "ring" if ring else "complete",
        "neighbours": numbers.neighbours,
        "threshold": numbers.threshold,
        "quorum": numbers.quorum,
        # 0, in a complete graph or when too few are corrupt, has no logarithm: null.
        "split_tail_log2": _log2(split_tail(numbers)),
        "split_tail_log2_allowed": -SPLIT_BITS,
        "availability_tail_log2": _log2(availability_tail(numbers)),
        "availability_tail_log2_allowed": -AVAILABILITY_BITS,
        "values": parameters.values - 1,
        "value_bits": parameters.value_bits,
        "bits_per_value": parameters.sum_bits,
        "bytes_per_value": parameters.bytes_per_value,
        "bytes_up": _bytes_up(numbers.neighbours, parameters),
        "mean_error_of_clip": parameters.mean_error(min_contributors),
        "proof": parameters.proof(),
    }


def _bytes_up(neighbours: int, parameters: MaskingParameters) -> dict[str, int]:
    """What one client sends at most, by what it is for."""
    from secagg.masking.agreement import KEY_BYTES
    from secagg.masking.shamir import SEALED_PAIR_BYTES, SHARE_BYTES

    parts = {
        # Two public keys and the commitment to a seed, a SHA-256.
        "keys": 3 * KEY_BYTES,
        "sealed_shares": neighbours * SEALED_PAIR_BYTES,
        "vector": parameters.vector_bytes,
        "revealed_shares": neighbours * SHARE_BYTES,
    }
    return parts | {"total": sum(parts.values())}


def _log2(probability: Any) -> float | None:
    from secagg.masking.tails import log2_of

    exponent = log2_of(probability)
    return exponent if math.isfinite(exponent) else None


def _table(figures: dict[str, Any]) -> Table:
    from rich.table import Table
    from rich.text import Text

    up = figures["bytes_up"]
    table = Table(title="A round of masking", show_header=False)
    for name, value in (
        ("Clients n", f"{figures['clients']:,}, at least {figures['min_contributors']:,} in a sum"),
        ("Corrupt C", f"{figures['corrupt']:,}"),
        ("Drop-outs D", f"{figures['dropped']:,}"),
        ("Neighbours k", f"{figures['neighbours']:,}{'' if figures['graph'] == 'ring' else ', everyone'}"),
        ("Threshold t", f"{figures['threshold']:,} shares give a secret back"),
        ("Quorum q", f"{figures['quorum']:,} clients sign the same survivors"),
        ("Betrayal", _chance(figures, "split_tail")),
        ("Outage", _chance(figures, "availability_tail")),
        ("Bits per value", f"{figures['bits_per_value']}, of which {figures['value_bits']} are one client's"),
        ("Bytes per value", f"{figures['bytes_per_value']:g}"),
        (
            "Bytes up per client",
            f"{up['total']:,}: vector of {figures['values']:,} values and the weight {up['vector']:,}",
        ),
        (
            "",
            f"+ keys {up['keys']:,} + shares, sealed {up['sealed_shares']:,} + shares, revealed {up['revealed_shares']:,}",
        ),
        ("", "not counted: signatures, names, framing, TLS"),
        (
            "Error of a mean",
            f"below {figures['mean_error_of_clip']:.1e} of clip, for the fewest contributors at full weight",
        ),
        ("No overflow", figures["proof"]),
    ):
        table.add_row(name, Text(value))
    return table


def _chance(figures: dict[str, Any], tail: str) -> str:
    exponent = figures[f"{tail}_log2"]
    chance = "impossible" if exponent is None else f"chance below 2^{math.ceil(exponent * 10) / 10:.1f}"
    return f"{chance} (2^{figures[f'{tail}_log2_allowed']} is allowed)"
