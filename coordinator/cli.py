"""``secagg coordinator``: reached by the entry point ``secagg.commands``, so that secagg never imports coordinator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from secagg.cli.errors import friendly_errors
from secagg.cli.loading import without_collecting

app = typer.Typer(
    no_args_is_help=True, help="Run the coordinator: it adds up what it cannot read, and never sees an update."
)


@app.callback()
def coordinator() -> None:
    """Keep ``serve`` a sub-command although it is the only one."""


@app.command()
@friendly_errors
def serve(
    config: Annotated[
        Path | None,
        typer.Option(
            envvar="SECAGG_COORDINATOR_CONFIG",
            help="TOML file; docs/samples/coordinator.toml shows every key. Without one, SECAGG_COORDINATOR_... counts.",
        ),
    ] = None,
) -> None:
    """Serve clients, operators and auditors until SIGTERM or Ctrl-C, then let running rounds end."""
    import asyncio
    import os

    with without_collecting():
        from coordinator.config import load_coordinator_settings
        from coordinator.server import serve as run
        from secagg import logs

    settings = load_coordinator_settings(config)
    logs.configure(form=settings.log.format, level=settings.log.level)
    # The database holds names and signatures: what this process makes is for its own user alone.
    os.umask(0o077)
    asyncio.run(run(settings))
