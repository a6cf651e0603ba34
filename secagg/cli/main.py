"""The ``secagg`` command. Each sub-command is imported when it is used, so that help answers at once."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

DISTRIBUTION: Final = "sumveil"
ENTRY_POINTS: Final = "secagg.commands"

COMMANDS: Final = {
    "demo": "Train a real model on this machine with every update encrypted or masked. Start here.",
    "pki": "Make and keep the CA and the certificates of every role.",
    "key-holder": "Run a key holder: a few of them open a sum together, none of them alone.",
    "coordinator": "Run the coordinator: it adds up what it cannot read, and never sees an update.",
    "job": "Make jobs and show them.",
    "round": "Show rounds and watch them run.",
    "client": "Take part in a round with an update from a file.",
    "plan": "Work out a protocol's numbers before a job asks for them.",
    "retention": "Delete records of rounds that ended long ago, and show the receipts.",
    "doctor": "Something is wrong? Check a party's set-up and say what to do.",
}
_MODULES: Final = {
    "demo": ("secagg.cli.demo", "demo"),
    "pki": ("secagg.cli.pki", "app"),
    "key-holder": ("secagg.cli.key_holder", "app"),
    "job": ("secagg.cli.job", "app"),
    "round": ("secagg.cli.round", "app"),
    "client": ("secagg.cli.client", "app"),
    "plan": ("secagg.cli.plan", "app"),
    "doctor": ("secagg.cli.doctor", "doctor"),
}

HELP: Final = """Add up model updates from many clients without anyone seeing a single one.

New here? Run `secagg demo`: it needs nothing but this machine.

A deployment: `secagg pki init` and `secagg pki issue ROLE NAME` make certificates. `secagg key-holder serve` and \
`secagg coordinator serve` run the services. `secagg job create --file job.toml` says what is added up. \
`secagg client submit`, or the Python class secagg.client.Client, takes part. `secagg round watch JOB` shows how it goes.
"""
EPILOG: Final = "Samples of every configuration file stand in docs/samples/. `secagg COMMAND --help` tells more."


class _LoadedOnUse(TyperGroup):
    """Lists stand-ins that know their help line alone; the command itself is loaded when it is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else _loaded(name), rest


app = typer.Typer(
    cls=_LoadedOnUse,
    help=HELP,
    epilog=EPILOG,
    no_args_is_help=True,
    # Tracebacks of ours are for defects; local variables could hold secrets.
    pretty_exceptions_enable=False,
)


def _stand_in() -> None:
    """Hold the place of a command until it is used."""


for _name, _help in COMMANDS.items():
    app.command(_name, help=_help)(_stand_in)


def _loaded(name: str) -> Any:
    found = _found(name)
    if isinstance(found, typer.Typer):
        return get_group(found)
    single = typer.Typer(add_completion=False)
    single.command(name)(found)
    return get_command(single)


def _found(name: str) -> Any:
    if name in _MODULES:
        module, attribute = _MODULES[name]
        __import__(module)
        return getattr(sys.modules[module], attribute)
    from importlib.metadata import entry_points

    for point in entry_points(group=ENTRY_POINTS, name=name):
        return point.load()
    from secagg.cli.errors import show_error
    from secagg.errors import ConfigError

    advice = f"Install {DISTRIBUTION} with `pip install`, so that its commands are registered"
    show_error(ConfigError(f"the command {name!r} is not installed", next_step=advice))
    raise typer.Exit(1)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"secagg {version(DISTRIBUTION)}")
        except PackageNotFoundError:
            typer.echo("secagg (not installed)")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Hold the options of the command itself."""


def main() -> None:
    """Run the command line."""
    # Before numpy is loaded: our own threads work side by side, and BLAS's in each of them only get in one another's way.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    app(prog_name="secagg")


if __name__ == "__main__":
    main()
