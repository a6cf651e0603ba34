"""This machine's clock against everything else that knows the time, and by how much it is off."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import SplitResult, urlsplit

from secagg.certificates import CLOCK_SKEW
from secagg.doctor.examination import Check, Examination
from secagg.doctor.findings import Finding, broken, ok, warning
from secagg.doctor.identity import ExaminedIdentity

TOLERATED: Final = timedelta(seconds=5)
"""Beyond it deadlines begin to differ visibly; beyond `CLOCK_SKEW` fresh certificates are refused."""
_ADVICE: Final = "Set this machine's clock by NTP (`timedatectl` shows its state), then start the service again"
_EITHER: Final = "Let NTP set the clock of both machines (`timedatectl` shows its state)"


def against_certificates(own: ExaminedIdentity) -> Iterator[Finding]:
    """Compare with the dates of what was made before now: certificates and the revocation list."""
    made = [(str(own.paths.authority), one.not_valid_before_utc) for one in own.authorities]
    if own.certificate is not None:
        made.append((str(own.paths.certificate), own.certificate.not_valid_before_utc))
    made += [(str(own.paths.revocations), one.made_at) for one in own.revocations]
    if made:
        subject, newest = max(made, key=lambda one: one[1])
        yield not_before(newest, own.at, subject)


def not_before(known: datetime, now: datetime, subject: str) -> Finding:
    """Compare with something that happened: a clock that shows less is behind."""
    behind = known - now
    if behind <= TOLERATED:
        return ok(
            "clock.not-behind",
            subject,
            f"the clock shows {now:%Y-%m-%d %H:%M:%S} UTC, which is later than the newest time known there",
        )
    says = f"the clock is behind by at least {duration(behind)}: something there is of {known:%Y-%m-%d %H:%M:%S} UTC"
    return broken("clock.behind", subject, says, _ADVICE)


def against(other: datetime, now: datetime, subject: str, *, resolution: timedelta = timedelta()) -> Finding:
    """Compare with another clock that was read at the same time, give or take its resolution."""
    difference = now - other
    off = max(abs(difference) - resolution, timedelta())
    direction = "ahead of" if difference > timedelta() else "behind"
    if off <= TOLERATED:
        return ok("clock.agrees", subject, f"the clocks agree within {duration(TOLERATED)}")
    says = f"this machine's clock is {duration(off)} {direction} that one"
    if off <= CLOCK_SKEW:
        return warning("clock.differs", subject, says, _EITHER)
    return broken("clock.wrong", subject, says, _EITHER)


def duration(span: timedelta) -> str:
    """Return a span as a person says it, in its largest two units: `2 h 5 min`."""
    seconds = int(abs(span).total_seconds())
    parts = [(seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s")]
    shown = [f"{count} {unit}" for count, unit in parts if count][:2]
    return " ".join(shown) or "less than 1 s"


def https_check(address: str, own: ExaminedIdentity, examination: Examination) -> Check:
    """Return the check against an HTTPS server of the deployment; a 403 tells the time too, so any role may ask."""
    return Check(area="clock", subject=address, run=lambda: [_against_party(address, own, examination)])


def _against_party(address: str, own: ExaminedIdentity, examination: Examination) -> Finding:
    try:
        context = ssl.create_default_context(cafile=str(own.paths.authority))
    except OSError as error:
        return _untold(address, error)
    if own.loaded is not None:
        context.load_cert_chain(own.paths.certificate, own.paths.private_key)
    return against_answer(urlsplit(f"https://{address}"), context, examination)


def against_answer(url: SplitResult, context: ssl.SSLContext, examination: Examination) -> Finding:
    """Compare with the `Date` of an HTTP or HTTPS answer, whatever its status is."""
    try:
        shown, now, took = _asked(url, context, examination)
    except (OSError, http.client.HTTPException, ValueError, TypeError) as error:
        return _untold(url.netloc, error)
    # A Date is cut to whole seconds.
    return against(shown, now, url.netloc, resolution=took + timedelta(seconds=1))


def _untold(subject: str, error: Exception) -> Finding:
    reason = getattr(error, "verify_message", None) or getattr(error, "strerror", None) or type(error).__name__
    advice = "Name host:port of an HTTPS server of this deployment, as it stands in its certificate: its metrics, say"
    return warning("clock.no-answer", subject, f"it told no time: {reason}", advice)


def _asked(url: SplitResult, context: ssl.SSLContext, examination: Examination) -> tuple[datetime, datetime, timedelta]:
    timeout, host = examination.timeout_seconds, url.hostname or ""
    connection = (
        http.client.HTTPSConnection(host, url.port, timeout=timeout, context=context)
        if url.scheme == "https"
        else http.client.HTTPConnection(host, url.port, timeout=timeout)
    )
    before = examination.clock()
    try:
        connection.request("HEAD", "/")
        date = connection.getresponse().getheader("Date")
    finally:
        connection.close()
    now = examination.clock()
    if date is None:
        raise ValueError("no Date")
    return parsedate_to_datetime(date).astimezone(UTC), now, now - before
