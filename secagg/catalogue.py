"""One table from every error to its gRPC status and public text, and the way back.

Statuses are names, so that this module stays free of grpc. Only fields of errors whose reason
is written for the caller travel; the others show a fixed text, and their reason stays in the log.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from he import errors as he_errors
from he.errors import HEError
from secagg import errors
from secagg.errors import RemoteError, SecAggError

ERROR_METADATA_KEY: Final = "secagg-error"
"""Trailing metadata that carries the error's name."""
FIELDS_METADATA_KEY: Final = "secagg-error-fields-bin"
"""Trailing metadata that carries the error's fields, JSON in at most 2,048 bytes."""
MAX_FIELDS_BYTES: Final = 2048
MAX_TEXT_CHARACTERS: Final = 400
_SHORT_TEXT_CHARACTERS: Final = 80
_FIELD_KINDS: Final = {
    "have": int | None,
    "need": int | None,
    "retry_after_seconds": int | None,
    "certain": bool,
    "holders": list,
}
_HINTS: Final = ("retry_after_seconds",)
"""Fields without which an error says the same: one that cannot be read is left out."""

KnownError = SecAggError | HEError
Field = str | int | bool | None | list[int]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """How one type of error looks from outside.

    Attributes:
        kind: the error type.
        status: the name of a gRPC status code.
        public_text: what a caller reads instead of the reason; None shows the reason itself.
    """

    kind: type[KnownError]
    status: str
    public_text: str | None = None


@dataclass(frozen=True, kw_only=True)
class PublicError:
    """What leaves the process.

    Attributes:
        status: the name of a gRPC status code.
        name: the error's name in the catalogue.
        text: one or two sentences of at most 400 characters, no control characters.
        fields: JSON from which `restore` makes the error again, at most 2,048 bytes.
    """

    status: str
    name: str
    text: str
    fields: bytes


_INTERNAL_TEXT: Final = "Something failed inside; the operator finds the cause in the log."
_STORAGE_TEXT: Final = "The service could not store or read something; nothing unstored was acknowledged."
_CONFIG_TEXT: Final = "The service is not configured for this; its operator finds the cause in the log."

_ENTRIES: Final = (
    Entry(kind=SecAggError, status="INTERNAL", public_text=_INTERNAL_TEXT),
    Entry(kind=errors.FaultyClientError, status="INVALID_ARGUMENT"),
    Entry(kind=errors.FaultyKeyHolderError, status="FAILED_PRECONDITION"),
    Entry(kind=errors.FaultyCoordinatorError, status="FAILED_PRECONDITION"),
    Entry(kind=errors.PlanError, status="INVALID_ARGUMENT"),
    Entry(kind=errors.UsageError, status="INVALID_ARGUMENT"),
    Entry(kind=errors.PolicyError, status="FAILED_PRECONDITION"),
    Entry(kind=errors.RoundAbortedError, status="ABORTED"),
    Entry(kind=errors.NotAllowedError, status="PERMISSION_DENIED"),
    Entry(kind=errors.NotFoundError, status="NOT_FOUND"),
    Entry(kind=errors.UnknownJobError, status="NOT_FOUND"),
    Entry(kind=errors.UnknownRoundError, status="NOT_FOUND"),
    Entry(kind=errors.WrongPhaseError, status="FAILED_PRECONDITION"),
    Entry(kind=errors.ConflictError, status="ALREADY_EXISTS"),
    Entry(kind=errors.LateError, status="FAILED_PRECONDITION"),
    Entry(kind=errors.MessageError, status="INVALID_ARGUMENT"),
    Entry(kind=errors.CertificateError, status="UNAUTHENTICATED"),
    Entry(kind=errors.UnreachableError, status="UNAVAILABLE"),
    Entry(kind=errors.RemoteError, status="INTERNAL"),
    Entry(kind=errors.BusyError, status="RESOURCE_EXHAUSTED"),
    Entry(kind=errors.ElsewhereError, status="UNAVAILABLE"),
    Entry(kind=errors.StorageError, status="INTERNAL", public_text=_STORAGE_TEXT),
    Entry(kind=errors.ConfigError, status="INTERNAL", public_text=_CONFIG_TEXT),
    Entry(kind=he_errors.HEError, status="INTERNAL", public_text=_INTERNAL_TEXT),
    Entry(kind=he_errors.ParameterError, status="INVALID_ARGUMENT"),
    Entry(kind=he_errors.FormatError, status="INVALID_ARGUMENT"),
    Entry(kind=he_errors.CiphertextError, status="INVALID_ARGUMENT"),
    Entry(kind=he_errors.UpdateError, status="INVALID_ARGUMENT"),
    Entry(kind=he_errors.FaultyShareError, status="FAILED_PRECONDITION"),
    Entry(kind=he_errors.ImplausibleSumError, status="FAILED_PRECONDITION"),
    Entry(kind=he_errors.CeremonyError, status="FAILED_PRECONDITION"),
    Entry(kind=he_errors.AnswersError, status="INVALID_ARGUMENT"),
)
_BY_KIND: Final = {entry.kind: entry for entry in _ENTRIES}
_BY_NAME: Final = {entry.kind.__name__: entry for entry in _ENTRIES}


def entry_for(kind: type[KnownError]) -> Entry:
    """Return the entry of the type itself.

    Raises:
        KeyError: the type has no entry, which a test keeps from happening.
    """
    return _BY_KIND[kind]


def describe(error: KnownError) -> PublicError:
    """Return what a caller may know of the error."""
    entry = entry_for(type(error))
    hidden = entry.public_text is not None
    fields: dict[str, Field] = {} if hidden else _fields_of(error)
    return PublicError(
        status=entry.status,
        name=entry.kind.__name__,
        text=_printable(entry.public_text or str(error)),
        fields=_encoded(fields),
    )


def restore(*, party: str, status: str, name: str, text: str, fields: bytes) -> KnownError:
    """Make the error again that a peer described; nothing it says is taken on trust.

    Args:
        party: who answered, for the message.
        status: the name of the gRPC status that came.
        name: the error's name that came.
        text: the public text that came.
        fields: the JSON that came, any bytes.

    Returns:
        An error of the named type when name and status belong together, else a `RemoteError`.
    """
    entry = _BY_NAME.get(name)
    if entry is None or entry.status != status:
        return RemoteError(party, f"it answered {status}: {_printable(text)}")
    if entry.public_text is not None:
        return _hidden(entry, party)
    return _rebuilt(entry.kind, _decoded(fields)) or RemoteError(party, _printable(text))


def _hidden(entry: Entry, party: str) -> KnownError:
    reason = f"{party} reports: {entry.public_text}"
    return cast("Callable[[str], KnownError]", entry.kind)(reason)


def _rebuilt(kind: type[KnownError], fields: dict[str, Field]) -> KnownError | None:
    positional = (fields.pop("message"),) if "message" in fields else ()
    try:
        return cast("Callable[..., KnownError]", kind)(*positional, **fields)
    except (TypeError, ValueError):
        return None


def _fields_of(error: KnownError) -> dict[str, Field]:
    if isinstance(error, SecAggError):
        return dict(error.fields())
    if isinstance(error, he_errors.FaultyShareError):
        return {"holders": list(error.holders), "certain": error.certain}
    message: dict[str, Field] = {"message": str(error)}
    if isinstance(error, he_errors.CeremonyError):
        message["holders"] = list(error.holders)
    return message


def _bounded(fields: dict[str, Field], characters: int = MAX_TEXT_CHARACTERS) -> dict[str, Field]:
    return {name: _printable(value)[:characters] if isinstance(value, str) else value for name, value in fields.items()}


def _encoded(fields: dict[str, Field]) -> bytes:
    for characters in (MAX_TEXT_CHARACTERS, _SHORT_TEXT_CHARACTERS):
        short = _bounded(fields, characters)
        encoded = json.dumps(short, separators=(",", ":"), ensure_ascii=False).encode()
        if len(encoded) <= MAX_FIELDS_BYTES:
            break
    return encoded


def _decoded(encoded: bytes) -> dict[str, Field]:
    if len(encoded) > MAX_FIELDS_BYTES:
        return {}
    try:
        fields = json.loads(encoded)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(fields, dict):
        return {}
    fields = {name: value for name, value in fields.items() if name not in _HINTS or _is_field(name, value)}
    if not all(_is_field(*pair) for pair in fields.items()):
        return {}
    return _bounded(fields)


def _is_field(name: str, value: object) -> bool:
    if isinstance(value, list):
        return name == "holders" and all(type(item) is int for item in value)
    return isinstance(value, _FIELD_KINDS.get(name, str))


def _printable(text: str) -> str:
    """Cut the text and drop what could steer a terminal: a peer may have written it."""
    kept = "".join(character if character.isprintable() else " " for character in text)
    return kept[:MAX_TEXT_CHARACTERS]
