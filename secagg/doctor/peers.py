"""Whether other parties can be reached and would serve us: a handshake to see who answers, then gRPC's health check."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from secagg.doctor.examination import Check, Examination
from secagg.doctor.findings import Finding, broken, ok, warning
from secagg.doctor.handshake import DialError, Refusal, judge, shown_certificate
from secagg.doctor.identity import ExaminedIdentity
from secagg.errors import CertificateError, NotAllowedError, UnreachableError
from secagg.party import Party
from secagg.transport import TlsIdentity, error_from_rpc, open_sync_channel

SILENT: Final = frozenset(
    f"peer.{kind}" for kind in ("refused", "timeout", "silent", "unknown-host", "no-route", "no-answer")
)
"""What is found of a party that is down, as against one that is another than it should be."""


def peer_check(address: str, target: Party, own: ExaminedIdentity, examination: Examination) -> Check:
    """Return the check of one party that the configuration dials."""
    subject = f"{target} at {address}"
    timeout = examination.timeout_seconds
    return Check(area="peer", subject=subject, run=lambda: _peer(address, target, own, subject, timeout))


def _peer(
    address: str, target: Party, own: ExaminedIdentity, subject: str, timeout_seconds: float
) -> Iterator[Finding]:
    try:
        der = shown_certificate(address, own, timeout_seconds=timeout_seconds)
    except DialError as error:
        yield _finding(error.refusal, subject)
        return
    refusal = judge(der, own, target)
    if refusal is not None:
        yield _finding(refusal, subject)
    elif own.loaded is None:
        advice = "See to the own certificate first; then run this again"
        yield warning(
            "peer.not-asked", subject, "it shows the right certificate, and our own is not fit to ask it", advice
        )
    else:
        yield _health(address, target, own.loaded, subject, timeout_seconds)


def _finding(refusal: Refusal, subject: str) -> Finding:
    return broken(f"peer.{refusal.kind}", subject, refusal.says, refusal.advice)


def _health(address: str, target: Party, identity: TlsIdentity, subject: str, timeout_seconds: float) -> Finding:
    try:
        serving = asked_for_health(address, target, identity, timeout_seconds)
    except CertificateError as error:
        return broken("peer.refuses-us", subject, f"it refuses our certificate: {error.cause}", error.next_step)
    except NotAllowedError as error:
        return broken("peer.refuses-us", subject, error.cause, error.next_step)
    except UnreachableError as error:
        advice = "Its ca.pem may be of another CA, or it hangs: its operator's log and `secagg doctor` there say which"
        says = f"it shows the right certificate and does not answer our call: {error.reason}"
        return broken("peer.no-answer", subject, says, advice)
    if serving:
        return ok("peer.serving", subject, "it shows the right certificate, takes ours, and serves")
    return warning("peer.not-serving", subject, "it starts or drains and takes no new work", "Ask again in a minute")


def asked_for_health(address: str, target: Party, identity: TlsIdentity, timeout_seconds: float) -> bool:
    """Ask a party's health service; return whether it serves.

    Raises:
        CertificateError: it does not take our certificate.
        NotAllowedError: our role may not ask; it is the target all the same.
        UnreachableError: no answer in time, or it ended the handshake.
        RemoteError: it failed.
    """
    with open_sync_channel(address, identity, target=target) as channel:
        request = health_pb2.HealthCheckRequest(service="")
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout_seconds)
        except grpc.RpcError as error:
            raise error_from_rpc(error, party=str(target)) from None  # type: ignore[arg-type]
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
