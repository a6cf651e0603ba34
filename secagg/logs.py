"""Structured logs: one event with keys and values in each line, on standard error.

Nothing secret is logged on purpose. :func:`redact` is the net beneath: it stands in front of every renderer.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, Literal

import structlog

SHORT_BYTES: Final = 64
"""Digests and signatures may be logged; what is longer may hold a share, a key or a vector."""
MAX_DEPTH: Final = 6
MAX_TEXT: Final = 2000
REDACTED: Final = "<redacted>"
_SECRET: Final = re.compile(
    r"(?:^|_)(?:secrets?|seeds?|shares?|private_?keys?|passphrases?|passwords?|smudging_?keys?|updates?|vectors?|means?|"
    r"weights?|plaintexts?|private_key_pem|key_pem)(?:$|_(?:bytes|pem|hex|values?)$)",
    re.IGNORECASE,
)
_PUBLIC: Final = frozenset({"total_weight", "min_total_weight", "max_weight"})
_PEM_KEY: Final = re.compile(r"-----BEGIN[A-Z ]*PRIVATE KEY-----.*?(?:-----END[A-Z ]*PRIVATE KEY-----|$)", re.DOTALL)


def configure(*, form: Literal["json", "console"] = "json", level: str = "info") -> None:
    """Set up structlog and the standard library's loggers (Alembic, SQLAlchemy, gRPC) alike, for this process.

    Args:
        form: ``json``, one object a line, or ``console``, for people.
        level: ``debug``, ``info``, ``warning`` or ``error``.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    before: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*before, *_renderers(form)],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*before, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(form)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Other libraries tell the story of every call at their info level.
    root.setLevel(number if number <= logging.DEBUG else max(number, logging.WARNING))


def _renderers(form: str) -> list[Any]:
    if form == "json":
        # Tracebacks are made text first, so that the net covers them too. Local variables never stand in them.
        return [structlog.processors.format_exc_info, redact, structlog.processors.JSONRenderer(default=_opaque)]
    colours = sys.stderr.isatty()
    plain = structlog.dev.plain_traceback
    return [redact, structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=plain)]


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace what must not be logged: values under secret names, arrays, bytes longer than 64, private keys in PEM."""
    for name in event:
        if name != "exc_info":
            event[name] = _of_key(name, event[name])
    return event


def _cleaned(value: Any, depth: int = 0) -> Any:
    if isinstance(value, bool | int | float | None):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex() if len(value) <= SHORT_BYTES else f"<{len(value)} bytes>"
    if hasattr(value, "__array__") or depth >= MAX_DEPTH:
        return _opaque(value)
    if isinstance(value, Mapping):
        return {str(key): _of_key(str(key), inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_cleaned(inner, depth + 1) for inner in value]
    return _text(str(value))


def _of_key(key: str, value: Any, depth: int = 0) -> Any:
    secret = _SECRET.search(key) and key not in _PUBLIC
    return REDACTED if secret else _cleaned(value, depth)


def _text(value: str) -> str:
    cleaned = _PEM_KEY.sub(REDACTED, value)
    return cleaned if len(cleaned) <= MAX_TEXT * 10 else cleaned[:MAX_TEXT] + "…"


def _opaque(value: object) -> str:
    """Name the type of what JSON cannot hold, and nothing of its value."""
    return f"<{type(value).__name__}>"
