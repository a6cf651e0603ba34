"""What ``secagg plan`` shows to a person, from the same figures that scripts get."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

from rich.table import Table
from rich.text import Text

Figures = Mapping[str, Any]
Rows = Iterable[tuple[str, str]]

NOT_CALIBRATED: Final = "not calibrated: run `secagg plan calibrate`"
_MEBIBYTE: Final = 1024**2
_USUAL_MBIT: Final = 100.0
"""Of a key holder's link, where none is given."""


def ckks_table(figures: Figures) -> Table:
    """Return the table of a ``ckks`` round."""
    return _table("A round of ckks", [*_ckks_rows(figures), *_cost_rows(figures), *_calibration_rows(figures)])


def masking_table(figures: Figures) -> Table:
    """Return the table of a ``masking`` round."""
    return _table("A round of masking", [*_masking_rows(figures), *_cost_rows(figures), *_calibration_rows(figures)])


def choice_table(figures: Figures) -> Table:
    """Return both protocols side by side, and the recommendation."""
    columns = {name: dict(_side_rows(one)) for name, one in figures["protocols"].items()}
    table = Table(title="One round, both protocols")
    table.add_column("")
    for name in columns:
        table.add_column(name)
    for name in next(iter(columns.values())):
        table.add_row(name, *(Text(column[name]) for column in columns.values()))
    lines = [f"recommended: {figures['recommended'] or 'neither'}: {figures['reason']}"]
    holders = figures["protocols"].get("ckks") or next(iter(figures["protocols"].values()))
    lines.append(f"not in the seconds: {_not_in_seconds(holders)}")
    lines += [f"{name}: {value}" for name, value in _calibration_rows(figures)]
    table.caption = "\n".join(lines)
    table.caption_justify = "left"
    return table


def _table(title: str, rows: Rows) -> Table:
    table = Table(title=title, show_header=False)
    for name, value in rows:
        table.add_row(name, Text(value))
    return table


def _ckks_rows(figures: Figures) -> Rows:
    yield "Clients n", f"{figures['clients']:,}, at least {figures['min_contributors']:,} in a sum"
    opening = f"any {figures['threshold']} open, {figures['quorum']} approve"
    yield "Key holders", f"{figures['holders']}, {opening}, {figures['corrupt_holders']} may be corrupt"
    yield "Ring", f"{figures['preset']}, packing {figures['packing']}: {figures['security_bits']} bits of security"
    yield "Smudging", f"the opening {_opening(figures)}; words of {figures['smudging_word_bits']} bits"
    yield (
        "Error of a mean",
        f"below {figures['mean_error_of_clip']:.1e} of clip, for the fewest contributors at full weight",
    )
    yield "", f"every value of it, in all but one of 2^20 rounds; deviation {figures['mean_deviation_of_clip']:.1e}"
    yield "No overflow", figures["proof"]


def _masking_rows(figures: Figures) -> Rows:
    up = figures["bytes_up"]
    yield "Clients n", f"{figures['clients']:,}, at least {figures['min_contributors']:,} in a sum"
    yield "Corrupt C", f"{figures['corrupt']:,}"
    yield "Drop-outs D", f"{figures['dropped']:,}"
    yield "Neighbours k", f"{figures['neighbours']:,}{'' if figures['graph'] == 'ring' else ', everyone'}"
    yield "Threshold t", f"{figures['threshold']:,} shares give a secret back"
    yield "Quorum q", f"{figures['quorum']:,} clients sign the same survivors"
    yield "Betrayal", _chance(figures, "split_tail")
    yield "Outage", _chance(figures, "availability_tail")
    yield "Security", f"{figures['security_bits']} bits: X25519 and AES-256"
    yield "Bits per value", f"{figures['bits_per_value']}, of which {figures['value_bits']} are one client's"
    yield "Bytes per value", f"{figures['bytes_per_value']:g}"
    yield (
        "Bytes up per client",
        f"{up['total']:,}: vector of {figures['values']:,} values and the weight {up['vector']:,}",
    )
    shares = f"+ shares, sealed {up['sealed_shares']:,} + shares, revealed {up['revealed_shares']:,}"
    yield "", f"+ keys {up['keys']:,} {shares}"
    yield "", "not counted: signatures, names, framing, TLS"
    yield (
        "Error of a mean",
        f"below {figures['mean_error_of_clip']:.1e} of clip, for the fewest contributors at full weight",
    )
    yield "No overflow", figures["proof"]


def _chance(figures: Figures, tail: str) -> str:
    exponent = figures[f"{tail}_log2"]
    chance = "impossible" if exponent is None else f"chance below 2^{math.ceil(exponent * 10) / 10:.1f}"
    return f"{chance} (2^{figures[f'{tail}_log2_allowed']} is allowed)"


def _cost_rows(figures: Figures) -> Rows:
    """What a round costs, the same for both protocols."""
    wire, seconds = figures["wire_bytes"], figures["seconds"]
    yield "On a client's wire", f"up {wire['client_up']['total']:,} bytes, down {wire['client_down']['total']:,} bytes"
    yield "  up", _parts(wire["client_up"])
    yield "  down", _parts(wire["client_down"])
    if wire["key_holder_up"] is not None:
        up, down = wire["key_holder_up"]["total"], wire["key_holder_down"]["total"]
        yield "On a key holder's", f"up {up:,} bytes, down {down:,} bytes"
    yield "Client seconds", _time(seconds["client"])
    if seconds["upload"] is not None:
        yield "  upload", f"{seconds['upload']:,.2f} at {figures['uplink_mbit']:g} Mbit/s"
    yield "Coordinator seconds", _time(seconds["coordinator"])
    if wire["key_holder_up"] is not None:
        yield "Key-holder seconds", _time(seconds["key_holder"])
    yield "Not in the seconds", _not_in_seconds(figures)
    yield "Coordinator memory", f"up to {figures['coordinator_memory_bytes'] / _MEBIBYTE:,.0f} MiB"
    yield "Coordinator disk", f"up to {figures['coordinator_disk_bytes'] / 1e6:,.1f} MB"
    first = figures["first_limit"]
    yield "First limit", f"{first['sentence']}; {_headroom(first)}"


def _side_rows(figures: Figures) -> Rows:
    """What is put side by side."""
    wire, seconds = figures["wire_bytes"], figures["seconds"]
    yield "bytes up per client", f"{wire['client_up']['total']:,}"
    yield "bytes down per client", f"{wire['client_down']['total']:,}"
    yield "upload seconds", _plain_time(seconds["upload"], "no uplink given")
    yield "client seconds", _plain_time(seconds["client"], NOT_CALIBRATED)
    yield "coordinator seconds", _plain_time(seconds["coordinator"], NOT_CALIBRATED)
    holders = figures.get("holders")
    yield "key holders", "none" if holders is None else f"{holders}, any {figures['threshold']} open"
    yield "key-holder seconds", "-" if holders is None else _plain_time(seconds["key_holder"], NOT_CALIBRATED)
    yield "key holder's bytes up", "-" if holders is None else f"{wire['key_holder_up']['total']:,}"
    yield "key holder's bytes down", "-" if holders is None else f"{wire['key_holder_down']['total']:,}"
    yield "coordinator memory", f"{figures['coordinator_memory_bytes'] / _MEBIBYTE:,.0f} MiB"
    yield "coordinator disk", f"{figures['coordinator_disk_bytes'] / 1e6:,.1f} MB"
    yield "security", f"{figures['security_bits']} bits"
    yield "an opening", "tells the sum alone" if holders is None else _opening(figures)
    yield "no overflow", figures["proof"]
    yield "error of a mean", f"{figures['mean_error_of_clip']:.1e} of clip"
    yield "drop-outs borne", f"{figures['dropped']:,}, at any moment" if holders is None else "any, before they upload"
    yield "first limit", f"{figures['first_limit']['sentence']}; {_headroom(figures['first_limit'])}"


def _calibration_rows(figures: Figures) -> Rows:
    source = figures["calibration"]
    if source is None:
        return
    yield "Calibration", f"{source['taken_at']}, {source['file']}"
    machine = source["machine"]
    yield "Seconds of", f"each party on a machine like {machine['cpu']}, {machine['cores']} cores"
    if source["differs"]:
        yield "", f"measured elsewhere: {'; '.join(source['differs'])}"


def _opening(figures: Figures) -> str:
    return f"within 2^-{figures['hidden_bits']:.1f} of one that tells the sum alone"


def _not_in_seconds(figures: Figures) -> str:
    holder = figures["wire_bytes"]["key_holder_down"]
    reading = ""
    if holder is not None:
        mbit = figures["holder_link_mbit"] or _USUAL_MBIT
        minutes = holder["total"] * 8 / (mbit * 1e6) / 60
        reading = f"; key holders read {holder['total']:,} bytes each ({minutes:,.1f} min at {mbit:g} Mbit/s)"
    return f"the network but for the client's uplink{reading}"


def _parts(parts: Mapping[str, int]) -> str:
    return " + ".join(f"{name} {size:,}" for name, size in parts.items() if name != "total")


def _time(parts: Mapping[str, float] | None) -> str:
    if parts is None:
        return NOT_CALIBRATED
    told = ", ".join(f"{name} {spent:,.2f}" for name, spent in parts.items() if name != "total")
    return f"{parts['total']:,.2f}: {told}"


def _plain_time(spent: Any, missing: str) -> str:
    if spent is None:
        return missing
    return f"{spent if isinstance(spent, float) else spent['total']:,.2f}"


def _headroom(limit: Mapping[str, Any]) -> str:
    return f"{limit['headroom']:,.1f} times as much would fit" if limit["headroom"] >= 1 else "it does not fit"
