"""Request ids: the same id with the same content is a repeat, with other content a mistake of the caller."""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from typing import Final

from secagg.errors import ConflictError, UsageError

MAX_REQUEST_ID_CHARACTERS: Final = 64


class RequestIds:
    """Remembers the last ids; the machines behind see to it that a repeat gets the same answer."""

    def __init__(self, capacity: int = 10_000) -> None:
        self._capacity = capacity
        self._seen: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    def verify(self, caller: str, request_id: str, content: bytes) -> None:
        """Take note of a request.

        Args:
            caller: whose id it is; callers do not share ids.
            request_id: 1 to 64 characters.
            content: everything that the request says.

        Raises:
            UsageError: the id has no such length.
            ConflictError: it came before with other content.
        """
        if not 0 < len(request_id) <= MAX_REQUEST_ID_CHARACTERS:
            raise UsageError(f"request_id must have 1 to {MAX_REQUEST_ID_CHARACTERS} characters")
        digest = hashlib.sha256(content).digest()
        known = self._seen.setdefault((caller, request_id), digest)
        if not hmac.compare_digest(known, digest):
            raise ConflictError(f"request {request_id!r} came before with other content")
        if len(self._seen) > self._capacity:
            self._seen.popitem(last=False)
