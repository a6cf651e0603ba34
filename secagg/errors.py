"""Every error that `secagg` raises. The type says who is to blame or what was wrong.

Each error names its cause and, in `next_step`, the way out; `str()` gives both. `fields()`
holds plain values from which the same error can be made again on the other side of a call.
"""

from __future__ import annotations

from typing import ClassVar

FieldValue = str | int | None


class SecAggError(Exception):
    """The root: catch this to catch everything that `secagg` raises on purpose.

    Args:
        reason: what happened, without a full stop; never a secret.
        next_step: what the reader can do about it; the type's own advice when left out.
    """

    FIELDS: ClassVar[tuple[str, ...]] = ("reason",)
    ADVICE: ClassVar[str] = "The log of the party that reports this says more"

    def __init__(self, reason: str, *, next_step: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.next_step = self.ADVICE if next_step is None else next_step

    @property
    def cause(self) -> str:
        """What happened, as one clause."""
        return self.reason

    def fields(self) -> dict[str, FieldValue]:
        """Return the constructor's arguments by name: strings, integers and None only."""
        return {name: getattr(self, name) for name in (*self.FIELDS, "next_step")}

    def __str__(self) -> str:
        """Join cause and way out into two sentences."""
        parts = (self.cause.rstrip(". "), self.next_step.rstrip(". "))
        return " ".join(f"{part}." for part in parts if part)

    def __reduce__(self) -> tuple[object, ...]:
        """Let an error cross a process boundary with its fields."""
        return _rebuild, (type(self), self.fields())


def _rebuild(kind: type[SecAggError], fields: dict[str, FieldValue]) -> SecAggError:
    return kind(**fields)  # type: ignore[arg-type]


class FaultyClientError(SecAggError):
    """A client sent what an honest client does not send. Only its contribution is lost."""

    FIELDS = ("client_id", "reason")
    ADVICE = "Its contribution does not count; check that client's version, plan and certificate"

    def __init__(self, client_id: str, reason: str, *, next_step: str | None = None) -> None:
        super().__init__(reason, next_step=next_step)
        self.client_id = client_id

    @property
    def cause(self) -> str:
        """The client and what it did."""
        return f"client {self.client_id} is at fault: {self.reason}"


class FaultyKeyHolderError(SecAggError):
    """A key holder sent what an honest holder does not send."""

    FIELDS = ("holder_id", "reason")
    ADVICE = "Ask that key holder's operator to check its version, clock and storage"

    def __init__(self, holder_id: str, reason: str, *, next_step: str | None = None) -> None:
        super().__init__(reason, next_step=next_step)
        self.holder_id = holder_id

    @property
    def cause(self) -> str:
        """The holder and what it did."""
        return f"key holder {self.holder_id} is at fault: {self.reason}"


class FaultyCoordinatorError(SecAggError):
    """The coordinator showed something that an honest coordinator does not show."""

    ADVICE = "Nothing more was sent to it; tell its operator before you take part again"

    @property
    def cause(self) -> str:
        """What the coordinator did."""
        return f"the coordinator is at fault: {self.reason}"


class PlanError(SecAggError):
    """A plan that cannot keep its promises. The reason names the number to change."""

    ADVICE = "Change the number named above and make the plan again"


class UsageError(SecAggError):
    """A request that makes no sense as it was made."""

    ADVICE = "Correct the request and try again; `secagg --help` shows what is accepted"


class PolicyError(SecAggError):
    """A client's or key holder's own policy refuses what it was offered."""

    ADVICE = "Ask for a plan that the policy allows, or change the policy if you trust the plan"


class RoundAbortedError(SecAggError):
    """A round ended without a result.

    Args:
        reason: why it ended.
        have: how many parties there were, where too few was the reason.
        need: how many the plan asks for.
        next_step: the way out.
    """

    FIELDS = ("reason", "have", "need")
    ADVICE = "Nothing was published; a new round needs new keys and your decision to take part"

    def __init__(
        self,
        reason: str,
        have: int | None = None,
        need: int | None = None,
        *,
        next_step: str | None = None,
    ) -> None:
        super().__init__(reason, next_step=next_step)
        self.have = have
        self.need = need

    @property
    def cause(self) -> str:
        """Why the round ended, with the count where there is one."""
        count = "" if self.need is None else f" (have {self.have}, need {self.need})"
        return f"the round was aborted: {self.reason}{count}"


class NotAllowedError(SecAggError):
    """The caller is who it says it is, but its role or name may not do this."""

    ADVICE = "Use a certificate of a role that may; `secagg pki show` lists the roles"


class NotFoundError(SecAggError):
    """What was asked for does not exist here."""

    ADVICE = "Check the name; `secagg job list` and `secagg round list` show what there is"


class UnknownJobError(NotFoundError):
    """No job has that name."""

    ADVICE = "`secagg job list` shows the jobs there are"


class UnknownRoundError(NotFoundError):
    """No round has that number."""

    ADVICE = "`secagg round list` shows the rounds there are"


class WrongPhaseError(SecAggError):
    """A message that the current phase of the round does not allow."""

    ADVICE = "`secagg round show` tells the phase; take part in a later round"


class ConflictError(SecAggError):
    """The same thing was submitted before with other contents."""

    ADVICE = "What was submitted first stays; send exactly that again, or use a new name"


class LateError(SecAggError):
    """It arrived after the deadline, and late contributions never count."""

    ADVICE = "Take part in a later round; a new round needs your decision to submit again"


class MessageError(SecAggError):
    """The one error of every decoder and of every signature check."""

    ADVICE = "Check that both sides run the same version and that nothing altered the message"


class CertificateError(SecAggError):
    """A certificate that cannot be trusted. The reason names the certificate."""

    ADVICE = "`secagg pki show` tells its state; `secagg pki issue --force` makes a new one"


class UnreachableError(SecAggError):
    """A party did not answer. That proves nothing about its honesty."""

    FIELDS = ("party", "reason")
    ADVICE = (
        "Check its address and that it runs; a refused or foreign certificate on either "
        "side looks the same from here, so check both with `secagg pki show`"
    )

    def __init__(self, party: str, reason: str = "it did not answer", *, next_step: str | None = None) -> None:
        super().__init__(reason, next_step=next_step)
        self.party = party

    @property
    def cause(self) -> str:
        """The party and how it failed to answer."""
        return f"{self.party} is unreachable: {self.reason}"


class RemoteError(SecAggError):
    """A party answered with a failure that it did not explain."""

    FIELDS = ("party", "reason")
    ADVICE = "Its operator finds the cause in its log"

    def __init__(self, party: str, reason: str, *, next_step: str | None = None) -> None:
        super().__init__(reason, next_step=next_step)
        self.party = party

    @property
    def cause(self) -> str:
        """The party and what it answered."""
        return f"{self.party} failed: {self.reason}"


class BusyError(SecAggError):
    """Something is full that has a bound: uploads at a time, bytes that wait on disk, calls that wait.

    Args:
        reason: what is full.
        retry_after_seconds: when it is worth trying again; None where that is not known.
        next_step: the way out.
    """

    FIELDS = ("reason", "retry_after_seconds")
    ADVICE = "Try again later; the service's operator can raise the bound"

    def __init__(self, reason: str, retry_after_seconds: int | None = None, *, next_step: str | None = None) -> None:
        super().__init__(reason, next_step=next_step)
        self.retry_after_seconds = retry_after_seconds


class ElsewhereError(SecAggError):
    """Another coordinator runs the rounds of a job, or nobody does for the moment.

    Args:
        job: whose rounds.
        address: ``host:port`` of who runs them now; empty where that is not known.
        next_step: the way out.
    """

    FIELDS = ("job", "address")
    ADVICE = "Call that one, or any other coordinator of the same database again in a moment"

    def __init__(self, job: str, address: str = "", *, next_step: str | None = None) -> None:
        super().__init__(f"the rounds of job {job} are run by another coordinator", next_step=next_step)
        self.job = job
        self.address = address

    @property
    def cause(self) -> str:
        """Whose rounds, and where."""
        return f"{self.reason}, at {self.address}" if self.address else self.reason


class StorageError(SecAggError):
    """Something could not be written or read back."""

    ADVICE = "Its operator's log and `secagg doctor` name the cause; nothing was acknowledged that is not stored"


class ConfigError(SecAggError):
    """The configuration, or the machine it meets, does not allow a start."""

    ADVICE = "Correct the setting named above and start again"
