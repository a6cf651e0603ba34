"""`secagg pki`: the deployment's CA and everybody's certificates."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from secagg import pki
from secagg.certificates import RevocationReason
from secagg.cli.errors import friendly_errors
from secagg.errors import ConfigError, UsageError
from secagg.party import Party, Role
from secagg.pki_index import IssuedCertificate

PASSPHRASE_VARIABLE: Final = "SECAGG_CA_PASSPHRASE"  # noqa: S105 - the name of a variable, not a passphrase

app = typer.Typer(
    no_args_is_help=True,
    help="Make and keep the CA and the certificates of every role. Run this where the coordinator's operator cannot: "
    "who holds the CA's key can invent clients.",
)

Directory = Annotated[Path, typer.Option("--dir", help="Where the CA and everything it issues stand.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        help=f"File with the passphrase of the CA's key. Or set {PASSPHRASE_VARIABLE}. Without: file mode 0600."
    ),
]
RoleArgument = Annotated[Role, typer.Argument(help="What the party does.")]
NameArgument = Annotated[str, typer.Argument(help="The party's name: a-z, 0-9 and -, at most 63 characters.")]
Days = Annotated[int, typer.Option(min=1, max=36500, help="How many days it counts.")]
DEFAULT_DIRECTORY: Final = Path("pki")


@app.command()
@friendly_errors
def init(
    directory: Directory = DEFAULT_DIRECTORY,
    passphrase_file: PassphraseFile = None,
    days: Days = pki.AUTHORITY_DAYS,
) -> None:
    """Make a new CA."""
    path = _opened(directory, passphrase_file).init(at=_now(), days=days)
    _say(f"Made a CA: {path}", "Next: `secagg pki issue coordinator NAME`, then key-holder, client, operator.")


@app.command()
@friendly_errors
def issue(
    role: RoleArgument,
    name: NameArgument,
    directory: Directory = DEFAULT_DIRECTORY,
    host: Annotated[
        list[str] | None,
        typer.Option(help="A further DNS name or address of a server; may be given again. localhost is always there."),
    ] = None,
    days: Days = pki.CERTIFICATE_DAYS,
    force: Annotated[
        bool, typer.Option("--force", help="Revoke and replace the certificate there is; `renew` leaves it.")
    ] = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make a key and a certificate for one party."""
    party = Party(role=role, name=name)
    opened = _opened(directory, passphrase_file)
    path = opened.issue(party, at=_now(), days=days, hosts=host or (), force=force)
    _say(f"Issued {party}: {path}", "Hand this directory, and nothing else, to that party over a private channel.")


@app.command()
@friendly_errors
def renew(
    role: RoleArgument,
    name: NameArgument,
    directory: Directory = DEFAULT_DIRECTORY,
    host: Annotated[
        list[str] | None,
        typer.Option(help="A further DNS name or address of a server; may be given again. Without: those it had."),
    ] = None,
    days: Days = pki.CERTIFICATE_DAYS,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make a new key and certificate for a party; the one it has counts until its end."""
    party = Party(role=role, name=name)
    path = _opened(directory, passphrase_file).renew(party, at=_now(), days=days, hosts=host or ())
    _say(
        f"Renewed {party}: {path}", "Next: put its key.pem and cert.pem in place; what runs takes them within seconds."
    )


@app.command()
@friendly_errors
def show(
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script to read.")] = False,
) -> None:
    """List every certificate and its state."""
    at = _now()
    issued = pki.Pki(directory=directory).issued()
    if as_json:
        typer.echo(json.dumps([{**one.as_json(), "state": one.state(at)} for one in issued], indent=2))
    else:
        Console().print(_table(issued, at))


@app.command()
@friendly_errors
def revoke(
    role: RoleArgument,
    name: NameArgument,
    directory: Directory = DEFAULT_DIRECTORY,
    serial: Annotated[
        str | None, typer.Option(help="Only the certificate of this number, as `secagg pki show` has it. Without: all.")
    ] = None,
    reason: Annotated[RevocationReason, typer.Option(help="Why.")] = RevocationReason.UNSPECIFIED,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Revoke a party's certificates and renew the revocation list."""
    party = Party(role=role, name=name)
    number = None if serial is None else _serial(serial)
    count = _opened(directory, passphrase_file).revoke(party, at=_now(), serial=number, reason=reason)
    _say(f"Revoked {count} of {party}.", _handing_out(directory))


@app.command("renew-crl")
@friendly_errors
def renew_revocation_list(
    directory: Directory = DEFAULT_DIRECTORY,
    days: Days = pki.REVOCATION_LIST_DAYS,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Sign the revocation list anew before it runs out."""
    path = _opened(directory, passphrase_file).renew_revocation_list(at=_now(), days=days)
    _say(f"Renewed {path}", _handing_out(directory))


def _handing_out(directory: Path) -> str:
    return f"Next: put {directory / 'crl.pem'} beside every party's ca.pem; what runs reads it within seconds."


def _serial(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        raise UsageError(f"{text!r} is no serial number", next_step="`secagg pki show` lists them") from None


def _opened(directory: Path, passphrase_file: Path | None) -> pki.Pki:
    return pki.Pki(directory=directory, passphrase=_passphrase(passphrase_file))


def _passphrase(path: Path | None) -> bytes | None:
    """Read the passphrase from a file or the environment: an argument would show in `ps`."""
    if path is None:
        return os.environ.get(PASSPHRASE_VARIABLE, "").encode() or None
    try:
        passphrase = path.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise ConfigError(f"the passphrase file {path} cannot be read: {error.strerror}") from error
    if not passphrase:
        raise ConfigError(f"the passphrase file {path} is empty")
    return passphrase


def _table(issued: tuple[IssuedCertificate, ...], at: datetime) -> Table:
    table = Table("Role", "Name", "State", "Valid until (UTC)", "Revoked (UTC)", "Serial")
    for one in issued:
        revoked = f"{one.revoked_at:%Y-%m-%d %H:%M} {one.reason}" if one.revoked_at else ""
        until = f"{one.not_after:%Y-%m-%d %H:%M}"
        table.add_row(one.party.role, one.party.name, one.state(at), until, revoked, f"{one.serial:x}")
    return table


def _say(done: str, next_step: str) -> None:
    typer.echo(done)
    typer.echo(next_step)


def _now() -> datetime:
    return datetime.now(UTC)
