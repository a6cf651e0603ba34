"""Requests by caller and id, with their first answers."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, and_, delete, select, update

from coordinator.contracts import AnsweredRequest, RequestRecord
from coordinator.store.database import insert_new
from coordinator.store.tables import REQUESTS
from secagg.errors import ConflictError
from secagg.ids import JobId, RoundNumber


def answer_to(connection: Connection, request: RequestRecord) -> bytes | None:
    """Return the first answer; None where there is none yet. ``ConflictError`` when the request had another content."""
    found = connection.execute(select(REQUESTS.c.digest, REQUESTS.c.answer).where(_same(request))).first()
    if found is None:
        return None
    if found.digest != request.digest:
        raise ConflictError("the request id was used before for another content")
    answer: bytes | None = found.answer
    return answer


def claim(
    connection: Connection,
    request: RequestRecord,
    at: float,
    *,
    answer: bytes | None = None,
    moved: tuple[JobId, RoundNumber] | None = None,
) -> bytes | None:
    """Store a request, with its answer unless it has one; return the first answer.

    Args:
        connection: of a transaction that writes.
        request: the call.
        at: seconds since the epoch.
        answer: wire bytes.
        moved: the round that the request moved, with which it goes.

    Raises:
        ConflictError: the request had another content.
    """
    job, round = moved or (None, None)
    values = {"caller": request.caller, "request_id": request.request_id, "digest": request.digest, "at": at}
    if insert_new(connection, REQUESTS, values | {"answer": answer, "job": job, "round": round}):
        return answer
    first = answer_to(connection, request)
    if first is None and answer is not None:
        given = {"answer": answer, "at": at, "job": job, "round": round}
        connection.execute(update(REQUESTS).where(_same(request)).values(given))
        return answer
    return first


def keep_answer(connection: Connection, answered: AnsweredRequest, at: float) -> bytes:
    """Store an answer unless there is one already; return the first."""
    first = claim(connection, answered.request, at, answer=answered.answer)
    return answered.answer if first is None else first


def purge(connection: Connection, before: float) -> int:
    """Delete requests of before; return how many."""
    return connection.execute(delete(REQUESTS).where(REQUESTS.c.at < before)).rowcount


def _same(request: RequestRecord) -> ColumnElement[bool]:
    return and_(REQUESTS.c.caller == request.caller, REQUESTS.c.request_id == request.request_id)
