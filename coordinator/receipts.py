"""Receipts of purged rounds as an auditor reads them: each signature verified, as tables and as JSON."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from coordinator.contracts import PurgeReceipt
from secagg import codec
from secagg.cli.statuses import printable
from secagg.errors import CertificateError, ConfigError, MessageError
from secagg.identity import TrustRoot
from secagg.messages.retention import PurgedRound

MOST_BYTES: Final = 256 * 1024 * 1024
"""The largest file of receipts that is read."""
_ADVICE: Final = "Name a file that `secagg retention show --json` printed"


@dataclass(frozen=True, kw_only=True)
class ReadReceipt:
    """A receipt and whether it counts.

    ``content``: wire bytes of the signed message; ``cause``: why it does not count, empty where it does; ``coordinator``: who
    signed it.
    """

    content: bytes
    purged: PurgedRound | None = None
    coordinator: str = ""
    cause: str = ""


def read_receipt(content: bytes, *, trust: TrustRoot, stored: PurgeReceipt | None = None) -> ReadReceipt:
    """Verify a receipt as of the time of its purge; never raises.

    Args:
        content: wire bytes of the signed message.
        trust: the CA, and what it revoked.
        stored: what the store says it is the receipt of.
    """
    try:
        signed = codec.signed_from_bytes(content)
        at = datetime.fromtimestamp(codec.unverified(signed, PurgedRound).purged_at, UTC)
        read = codec.authenticate(signed, PurgedRound, trust=trust, at=at)
    except (MessageError, CertificateError) as error:
        return ReadReceipt(content=content, cause=error.cause)
    purged = read.message
    if stored is not None and (purged.job, purged.round) != (stored.job, stored.round):
        return ReadReceipt(content=content, cause=f"it is of round {purged.round} of job {purged.job}")
    return ReadReceipt(content=content, purged=purged, coordinator=str(read.party))


def receipts_from_json(path: Path) -> list[bytes]:
    """Return the signed messages of a file that :func:`receipts_json` filled.

    Raises:
        ConfigError: the file cannot be read.
        MessageError: it holds no receipts.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise MessageError(f"{path} has more than {MOST_BYTES} bytes", next_step=_ADVICE)
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", next_step=_ADVICE) from error
    try:
        return [base64.b64decode(one["signed"], validate=True) for one in json.loads(data)]
    except (ValueError, TypeError, KeyError, RecursionError, binascii.Error) as error:
        raise MessageError(f"{path} holds no receipts", next_step=_ADVICE) from error


def receipts_json(receipts: Iterable[ReadReceipt]) -> list[dict[str, Any]]:
    """Return receipts for a script or an auditor: what each says, and the signed bytes that prove it (base64)."""
    return [
        {
            **({} if one.purged is None else purged_json(one.purged)),
            "holds": one.purged is not None,
            "cause": one.cause,
            "coordinator": one.coordinator,
            "signed": base64.b64encode(one.content).decode(),
        }
        for one in receipts
    ]


def purged_json(purged: PurgedRound) -> dict[str, Any]:
    """Return what was deleted of a round; digests in hexadecimal."""
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in asdict(purged).items()}


def receipts_table(receipts: Iterable[ReadReceipt]) -> Table:
    """Return one line for each receipt."""
    table = _table("Job", "Round", "Ended (UTC)", "Purged (UTC)", "Rule", "Clients", flexible="Receipt")
    for one in receipts:
        if one.purged is None:
            table.add_row("?", "", "", "", "", "", Text(f"does not hold: {printable(one.cause)}", style="bold red"))
            continue
        purged = one.purged
        signed = Text(f"signed by {one.coordinator}", style="green")
        ended, gone = _moment(purged.ended_at), _moment(purged.purged_at)
        rule = f"{purged.record_days} days"
        clients = str(purged.contributions)
        table.add_row(printable(purged.job), str(purged.round), ended, gone, rule, clients, signed)
    return table


def purged_table(rounds: Sequence[PurgedRound]) -> Table:
    """Return one line for each round with what is deleted of it."""
    table = _table("Job", "Round", "Phase", "Ended (UTC)", "Clients", "Holders", flexible="Audit lines")
    for one in rounds:
        counts = (str(one.contributions), str(one.holders), str(one.audit_lines))
        table.add_row(printable(one.job), str(one.round), _phase(one), _moment(one.ended_at), *counts)
    return table


def receipt_table(receipt: ReadReceipt) -> Table:
    """Return everything of one receipt; of one that does not hold, why."""
    table = Table(show_header=False)
    if receipt.purged is None:
        table.add_row("Receipt", Text(f"does not hold: {printable(receipt.cause)}", style="bold red"))
        return table
    for name, value in purged_json(receipt.purged).items():
        shown = _moment(value) if name.endswith("_at") else str(value)
        table.add_row(name.replace("_", " "), Text(printable(shown), overflow="fold"))
    table.add_row("signed by", Text(receipt.coordinator, style="green"))
    return table


def _table(*columns: str, flexible: str) -> Table:
    table = Table()
    for name in columns:
        table.add_column(name, no_wrap=True)
    table.add_column(flexible)
    return table


def _phase(purged: PurgedRound) -> str:
    return "published" if purged.published else "aborted"


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"
