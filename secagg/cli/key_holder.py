"""`secagg key-holder`: hold one share of every round's key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from secagg.cli.errors import friendly_errors
from secagg.cli.loading import without_collecting

app = typer.Typer(no_args_is_help=True, help="Run a key holder: it opens sums together with others, and nothing else.")

Config = Annotated[
    Path | None,
    typer.Option(
        envvar="SECAGG_KEY_HOLDER_CONFIG",
        help="TOML file; docs/samples/key-holder.toml shows every key. Without one, SECAGG_KEY_HOLDER_... counts.",
    ),
]


@app.command()
@friendly_errors
def serve(config: Config = None) -> None:
    """Serve the coordinator until SIGTERM or Ctrl-C, then let running calls end. Shares stay sealed on disk."""
    import asyncio

    with without_collecting():
        from secagg import logs
        from secagg.key_holder.config import load_key_holder_settings
        from secagg.key_holder.server import serve as run

    settings = load_key_holder_settings(config)
    logs.configure(form=settings.log.format, level=settings.log.level)
    asyncio.run(run(settings))


@app.command()
@friendly_errors
def backup(
    to: Annotated[Path, typer.Option(help="A directory that does not exist yet; it is made with mode 0700.")],
    config: Config = None,
) -> None:
    """Copy ledger and begun ceremonies while the holder runs. Keys of open rounds are left out, and no secret is in it."""
    from secagg.key_holder.backups import back_up
    from secagg.key_holder.config import load_key_holder_settings

    settings = load_key_holder_settings(config)
    back_up(settings.data_dir, to.absolute())
    print(f"{to} holds the ledger and no key; the identity and the sealing key file are not in it.")


@app.command()
@friendly_errors
def restore(
    source: Annotated[
        Path, typer.Option("--from", help="A directory that backup made, or a copy of a data directory.")
    ],
    config: Config = None,
    replace: Annotated[bool, typer.Option("--replace", help="Give up the database that lies there.")] = False,
) -> None:
    """Put a backup in place of a lost database, with the holder stopped. Rounds that were begun before are refused from then on."""
    from secagg.key_holder.backups import restore as put_back
    from secagg.key_holder.config import load_key_holder_settings

    settings = load_key_holder_settings(config)
    put_back(settings.data_dir, source.absolute(), replace=replace)
    print(
        f"{settings.data_dir} is restored: start the holder; it takes part in new rounds, and in none that was begun before."
    )
