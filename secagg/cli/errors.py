"""How every command fails: one red line with the cause, one with the way out, exit code 1."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

import typer

from he.errors import HEError
from secagg.errors import SecAggError

FAILED_EXIT_CODE: Final = 1
INTERRUPTED_EXIT_CODE: Final = 130

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")


def friendly_errors(command: Callable[Arguments, Returned]) -> Callable[Arguments, Returned]:
    """Wrap a Typer command: our errors become two lines on stderr and a non-zero exit.

    Put it beneath `@app.command()`. An error that is not ours keeps its traceback: it is a defect,
    and whoever reports it needs it.
    """

    @functools.wraps(command)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Returned:
        try:
            return command(*args, **kwargs)
        except (SecAggError, HEError) as error:
            show_error(error)
            raise typer.Exit(FAILED_EXIT_CODE) from error
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED_EXIT_CODE) from None

    return wrapped


def show_error(error: SecAggError | HEError) -> None:
    """Print the cause in red and the next step on stderr; peers' text cannot style the terminal."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True)
    cause, next_step = (error.cause, error.next_step) if isinstance(error, SecAggError) else (str(error), "")
    console.print(Text(f"error: {_printable(cause)}", style="bold red"))
    if next_step:
        console.print(Text(f"next step: {_printable(next_step)}"))


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
