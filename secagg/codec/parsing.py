"""What every decoder shares: bounds, and one error type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from secagg.errors import MessageError, SecAggError

MAX_PARTIES = 10_000
"""Entries of the longest list of parties that is read."""

WireT = TypeVar("WireT", bound=Message)
ItemT = TypeVar("ItemT")


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn whatever a decoder runs into into :class:`MessageError`."""
    try:
        yield
    except MessageError:
        raise
    except SecAggError as error:
        raise MessageError(f"{what}: {error.cause}", next_step=error.next_step) from error
    except (ValueError, TypeError, KeyError, ArithmeticError, DecodeError) as error:
        raise MessageError(f"{what} is not well formed") from error


def parsed(kind: type[WireT], data: bytes, what: str) -> WireT:
    """Parse wire bytes."""
    with reading(what):
        return kind.FromString(data)


def bounded(items: Sequence[ItemT], what: str, most: int = MAX_PARTIES) -> Sequence[ItemT]:
    """Return a list that is not longer than ``most``."""
    if len(items) > most:
        raise MessageError(f"{len(items)} {what} are more than {most}")
    return items
