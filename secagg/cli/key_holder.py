"""`secagg key-holder`: hold one share of every round's key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from secagg.cli.errors import friendly_errors

app = typer.Typer(no_args_is_help=True, help="Run a key holder: it opens sums together with others, and nothing else.")


@app.callback()
def key_holder() -> None:
    """Keep `serve` a sub-command although it is the only one."""


@app.command()
@friendly_errors
def serve(
    config: Annotated[
        Path | None,
        typer.Option(
            envvar="SECAGG_KEY_HOLDER_CONFIG",
            help="TOML file; docs/samples/key-holder.toml shows every key. Without one, SECAGG_KEY_HOLDER_... counts.",
        ),
    ] = None,
) -> None:
    """Serve the coordinator until SIGTERM or Ctrl-C, then let running calls end. Shares stay sealed on disk."""
    import asyncio

    from secagg import logs
    from secagg.key_holder.config import load_key_holder_settings
    from secagg.key_holder.server import serve as run

    settings = load_key_holder_settings(config)
    logs.configure(form=settings.log.format, level=settings.log.level)
    asyncio.run(run(settings))
