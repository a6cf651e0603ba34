"""`secagg doctor`: something is wrong, and this says what and what to do."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from secagg.cli.errors import friendly_errors

if TYPE_CHECKING:
    from rich.text import Text

    from secagg.doctor.findings import Finding, Level, Report

WARNED_EXIT_CODE: Final = 1
BROKEN_EXIT_CODE: Final = 2
USUAL_NAMES: Final = tuple(Path(f"{name}.toml") for name in ("coordinator", "key-holder", "client", "operator"))
_STYLES: Final = {"ok": "green", "warning": "yellow", "broken": "bold red"}


class ExaminedRole(StrEnum):
    """Whose configuration it is; an auditor's is an operator's."""

    COORDINATOR = "coordinator"
    KEY_HOLDER = "key-holder"
    CLIENT = "client"
    OPERATOR = "operator"


@friendly_errors
def doctor(
    *,
    config: Annotated[
        list[Path] | None,
        typer.Option(
            help="Configuration of a coordinator, key holder, client or operator. Repeat it. "
            "Left out: those of this directory with the names of docs/samples/."
        ),
    ] = None,
    role: Annotated[
        ExaminedRole | None,
        typer.Option(help="Whose configuration it is, where its keys do not tell; alone: SECAGG_<ROLE>_... counts."),
    ] = None,
    warn_days: Annotated[
        int, typer.Option(min=0, max=3650, help="Warn this long before a certificate or revocation list ends.")
    ] = 30,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=300, help="Seconds that one dial, handshake, call or statement may take.")
    ] = 5.0,
    clock_from: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST:PORT",
            help="HTTPS server of the deployment, such as its metrics, to compare clocks with. Repeat it.",
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 on warnings too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script to read.")] = False,
) -> None:
    """Check configuration, certificates, clock, ports, store, disk and who can be reached, and say what to do.

    Changes nothing, and may run beside the services. Exits with 0 when nothing is broken, with 2 when something is, and with
    --strict with 1 when there are only warnings.
    """
    # gRPC would write its own lines about a failed handshake between ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from secagg.doctor.examination import Examination
    from secagg.doctor.findings import reports_as_json, worst
    from secagg.doctor.roles import report_of
    from secagg.party import Role

    examination = Examination(timeout_seconds=timeout, warn_days=warn_days, clock_from=_addresses(clock_from or ()))
    known = None if role is None else Role(role)
    reports = [report_of(one, known, examination) for one in _configs(config, role)]
    if as_json:
        typer.echo(json.dumps(reports_as_json(reports), indent=2))
    else:
        _show(reports)
    raise typer.Exit(_exit_code(worst(one.level for one in reports), strict=strict))


def _configs(given: Sequence[Path] | None, role: ExaminedRole | None) -> Sequence[Path | None]:
    if given:
        return given
    if role is not None:
        return [None]
    found = [path for path in USUAL_NAMES if path.is_file()]
    if not found:
        names = ", ".join(path.name for path in USUAL_NAMES)
        raise typer.BadParameter(f"give a configuration: this directory has none of {names}", param_hint="--config")
    return found


def _addresses(given: Iterable[str]) -> tuple[str, ...]:
    addresses = tuple(given)
    for one in addresses:
        host, _, port = one.rpartition(":")
        if not (host and port.isdecimal() and int(port) <= 65535):
            raise typer.BadParameter(f"{one!r} is not host:port", param_hint="--clock-from")
    return addresses


def _exit_code(level: Level, *, strict: bool) -> int:
    codes = {"ok": 0, "warning": WARNED_EXIT_CODE if strict else 0, "broken": BROKEN_EXIT_CODE}
    return codes[level.value]


def _show(reports: Sequence[Report]) -> None:
    """Print lines: coloured on a terminal, plain anywhere else, and with one word of level at the start of each."""
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False)
    for report in reports:
        console.print(_title(report))
        for finding in report.findings:
            for line in _lines(finding):
                console.print(line)
        console.print(_sum(report))


def _title(report: Report) -> Text:
    from rich.text import Text

    return Text(_printable(f"{report.role or 'unknown role'}: {report.config}"), style="bold")


def _lines(finding: Finding) -> Iterator[Text]:
    from rich.text import Text

    level = Text(f"  {finding.level.value:<8}", style=_STYLES[finding.level.value])
    yield level + Text(_printable(f" {finding.subject}: {finding.says} [{finding.check}]"))
    if finding.advice:
        yield Text(_printable(f"            {finding.advice}."), style="dim")


def _sum(report: Report) -> Text:
    from rich.text import Text

    counts = {name: sum(one.level.value == name for one in report.findings) for name in _STYLES}
    worst = report.level.value
    text = f"  {counts['ok']} checks passed, {counts['warning']} warnings, {counts['broken']} broken"
    return Text(text, style=_STYLES[worst])


def _printable(text: str) -> str:
    """Peers' text cannot style the terminal or end a line."""
    return "".join(character if character.isprintable() else " " for character in text)
