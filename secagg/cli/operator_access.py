"""How ``secagg job`` and ``secagg round`` reach the coordinator: options, then environment, then a file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from secagg.operator import OperatorClient

ENV_PREFIX: Final = "SECAGG_OPERATOR_"
DEFAULT_CONFIG: Final = Path("operator.toml")

Config = Annotated[
    Path | None,
    typer.Option(
        envvar=f"{ENV_PREFIX}CONFIG",
        help="TOML file as docs/samples/operator.toml; operator.toml of this directory, if there is one.",
    ),
]
Coordinator = Annotated[
    list[str] | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Where the coordinator listens, instead of the file's address. Repeat it for several of one database.",
    ),
]
Identity = Annotated[
    Path | None,
    typer.Option(help="Directory that `secagg pki issue operator NAME` made, instead of the file's."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script to read.")]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's name.")]


@contextmanager
def operator_client(
    config: Path | None, coordinator: list[str] | None, identity: Path | None
) -> Iterator[OperatorClient]:
    """Open a client with the settings that hold.

    Raises:
        ConfigError: something is missing or does not fit.
        CertificateError: the certificate does not hold, or is neither an operator's nor an auditor's.
    """
    from secagg.config import OperatorSettings, load_settings
    from secagg.errors import CertificateError
    from secagg.identity import Party, Role
    from secagg.identity_keeper import followed
    from secagg.operator import OperatorClient

    settings = load_settings(OperatorSettings, _file(config), ENV_PREFIX, environment=_given(coordinator, identity))
    own = followed(settings.identity, at=datetime.now(UTC))
    if own.party.role not in (Role.OPERATOR, Role.AUDITOR):
        advice = "Name the directory of an operator's or auditor's certificate"
        raise CertificateError(f"{settings.identity} is for {own.party}", next_step=advice)
    target = Party(role=Role.COORDINATOR, name=settings.coordinator.name)
    with OperatorClient(
        settings.coordinator.address, own, coordinator=target, timeout_seconds=settings.timeout_seconds
    ) as client:
        yield client


def _file(config: Path | None) -> Path | None:
    return DEFAULT_CONFIG if config is None and DEFAULT_CONFIG.is_file() else config


def _given(coordinator: list[str] | None, identity: Path | None) -> dict[str, str]:
    given = dict(os.environ)
    if coordinator:
        given[f"{ENV_PREFIX}COORDINATOR__ADDRESS"] = json.dumps(coordinator)
    if identity is not None:
        # As a person means it: from here, not from the directory of a file.
        given[f"{ENV_PREFIX}IDENTITY"] = str(identity.absolute())
    return given
