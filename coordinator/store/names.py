"""Names of blobs: parts that lead nowhere else, in a directory or in a bucket."""

from __future__ import annotations

import re
from typing import Final

from secagg.errors import UsageError

_PART: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
"""No part begins with a point: such names are the stores' own."""
_MAX_PARTS: Final = 8


def parts_of(name: str) -> list[str]:
    """Return the parts of a blob's name; ``UsageError`` for what is none."""
    parts = name.split("/")
    if len(parts) > _MAX_PARTS or not all(_PART.fullmatch(part) for part in parts):
        raise UsageError(f"{name[:80]!r} is not the name of a blob")
    return parts
