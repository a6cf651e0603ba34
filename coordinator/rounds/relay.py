"""The coordinator's part in a key ceremony: it carries messages, checks signatures, and counts who is missing.

Source: docs/protocol.md, section 4. It can stop a ceremony, and it can neither learn nor bend its key.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Final, TypeVar, cast

import structlog

from coordinator.rounds.calls import KeyHolderCalls
from he.errors import CeremonyError, FormatError
from he.public_key import PublicKey
from he.residues import Residues, residues_from_bytes
from he.ring import key_ring_for
from he.sampling import expand_public
from secagg import faults, transcript
from secagg.errors import ConflictError, FaultyKeyHolderError, SecAggError, UnreachableError
from secagg.ids import Digest, HolderId, KeyId, RoundNumber
from secagg.messages.ceremony import Dealing, DealingBundle, KeyStatement, PublicKeyBundle, TrialBundle
from secagg.messages.round import HolderStatus, HolderVerdict
from secagg.messages.signed import Authenticated
from secagg.plan import CeremonyPlan, CkksRound, JobSpec, RoundPlan
from secagg.roles.coordinator.events import CeremonyBegun, KeyCertified, KeyFailed
from secagg.roles.coordinator.state import named

T = TypeVar("T")
Holders = Mapping[HolderId, KeyHolderCalls]

_log: Final = structlog.get_logger("coordinator.ceremony")
_CALLS_PER_CEREMONY: Final = 6
_ANSWER_SLACK_BYTES: Final = 64
MOST_ATTEMPTS: Final = 12
"""At one key, those of former processes included: each does without one of at most nine holders, and some are lost in restarts."""
_MOST_RESTARTS: Final = 2
"""In the making of one key."""
_FAULTY: Final = HolderVerdict.FAULTY
END_SECONDS: Final = 5.0
"""How long a holder has to take note that a ceremony or a round is over; it ends by itself otherwise."""


class CeremonyLostError(Exception):
    """An attempt made no key; ``statuses`` says of whom the next attempt does without.

    ``restarted``: those of them that say that they were restarted inside the ceremony; they may take part in another one.
    """

    def __init__(
        self, reason: str, statuses: Iterable[HolderStatus], *, restarted: frozenset[HolderId] = frozenset()
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.statuses = tuple(statuses)
        self.restarted = restarted

    def reachable(self, holders: Iterable[HolderId]) -> tuple[HolderId, ...]:
        """Return those of the holders that did not stay silent."""
        silent = {status.holder for status in self.statuses if status.verdict is HolderVerdict.UNREACHABLE}
        return tuple(holder for holder in holders if holder not in silent)


async def _unnoted(_event: CeremonyBegun) -> None:
    """Take note of nothing."""


async def make_key(
    holders: Holders,
    spec: JobSpec,
    round: RoundNumber,
    *,
    after_attempt: int = 0,
    begun: Callable[[CeremonyBegun], Awaitable[None]] = _unnoted,
) -> KeyCertified | KeyFailed:
    """Run ceremonies until one ends with a key, each without those that the one before lost.

    Args:
        holders: whom the coordinator can call.
        spec: the job.
        round: its round.
        after_attempt: how many attempts were begun before.
        begun: told of each attempt before a holder hears of it.
    """
    ckks = spec.ckks
    known = {name: HolderStatus(holder=name, verdict=HolderVerdict.OK) for name in ckks.holders}
    left, reason, attempt, restarts = ckks.holders, "", after_attempt, 0
    while len(left) >= ckks.min_holders:
        if attempt >= MOST_ATTEMPTS:
            reason = f"{attempt} attempts came to nothing{': ' if reason else ''}{reason}"
            break
        attempt += 1
        plan = CeremonyPlan(spec=spec, round=round, attempt=attempt, group=ckks.group(left))
        await begun(CeremonyBegun(attempt=attempt, holders=left))
        try:
            bundle = await _Ceremony(holders, plan).run()
        except CeremonyLostError as lost:
            # Who is silent now would hold up the next attempt; it ends by itself.
            await end_ceremony(holders, plan.digest, lost.reachable(left))
            reason = lost.reason
            known.update({status.holder: status for status in lost.statuses})
            restarts += bool(lost.restarted)
            # Whoever says it again and again is done without.
            forgiven = lost.restarted if restarts <= _MOST_RESTARTS else frozenset()
            dropped = {status.holder for status in lost.statuses} - forgiven
            _log.warning("ceremony failed", job=spec.job, round=round, attempt=attempt, reason=reason)
            if not dropped and not forgiven:
                break
            left = tuple(holder for holder in left if holder not in dropped)
        except BaseException:
            await end_ceremony(holders, plan.digest, left)
            raise
        else:
            certified = {name: HolderStatus(holder=name, verdict=HolderVerdict.OK) for name in left}
            return _certified(bundle, tuple({**known, **certified}.values()))
    have = len(left)
    need = ckks.min_holders if have < ckks.min_holders else None
    return KeyFailed(
        reason=f"no key could be made: {reason}",
        holders=tuple(known.values()),
        have=None if need is None else have,
        need=need,
    )


def _certified(bundle: PublicKeyBundle, statuses: tuple[HolderStatus, ...]) -> KeyCertified:
    plan = bundle.plan
    key_id = bundle.statements[0].message.key_id
    protocol = CkksRound(key_id=key_id, group=plan.group)
    return KeyCertified(
        bundle=bundle,
        plan=RoundPlan(spec=plan.spec, round=plan.round, protocol=protocol),
        holders=statuses,
    )


async def end_ceremony(holders: Holders, ceremony: Digest, names: Iterable[HolderId]) -> None:
    """Tell holders that a ceremony or its round is over; who does not hear it ends by itself."""

    async def end(holder: HolderId) -> None:
        try:
            await holders[holder].end_round(ceremony, timeout_seconds=END_SECONDS)
        except SecAggError as error:
            _log.info("holder not told of the end", holder=holder, cause=str(error))

    await asyncio.gather(*(end(holder) for holder in names if holder in holders))


@dataclass(frozen=True, kw_only=True)
class _Transcript:
    key_id: KeyId
    dealings: tuple[DealingBundle, ...]
    trials: tuple[TrialBundle, ...]


class _Ceremony:
    """One attempt, with one group of holders."""

    def __init__(self, holders: Holders, plan: CeremonyPlan) -> None:
        self._holders = holders
        self._plan = plan
        self._names = plan.group.holders
        self._seconds = max(1.0, plan.spec.deadlines.keying_seconds / _CALLS_PER_CEREMONY)

    async def run(self) -> PublicKeyBundle:
        """Return the key, with the statements of all holders; :class:`CeremonyLostError` otherwise."""
        digest, seconds = self._plan.digest, self._seconds
        hellos = await self._ask(lambda calls: calls.begin_ceremony(self._plan, timeout_seconds=seconds))
        self._require(
            hellos, lambda hello: hello.message.ceremony_digest == digest, "its hello is for another ceremony"
        )
        context = transcript.ceremony_context(digest, [hello.message for hello in hellos])
        commitments = await self._ask(lambda calls: calls.commit_key(digest, hellos, timeout_seconds=seconds))
        self._require(commitments, lambda made: made.message.context == context, "it committed in another context")
        dealings = await self._ask(lambda calls: calls.deal_shares(digest, commitments, timeout_seconds=seconds))
        self._require(dealings, lambda made: self._dealt(made, context), "its dealing does not hold what it signed")
        key_id = transcript.key_id(
            context, [made.message for made in commitments], [made.dealing.message for made in dealings]
        )
        trials = await self._ask(
            lambda calls: calls.try_key(digest, _for_receiver(dealings, calls.holder), timeout_seconds=seconds)
        )
        self._require(trials, lambda tried: self._answered(tried, key_id), "its trial is not for this key")
        seen = _Transcript(key_id=key_id, dealings=dealings, trials=trials)
        if any(trial.trial.message.complaint for trial in trials):
            raise await self._blame(seen)
        statements, b = await self._certify(seen, context)
        return PublicKeyBundle(plan=self._plan, hellos=hellos, b=b, statements=statements)

    def _dealt(self, bundle: DealingBundle, context: Digest) -> bool:
        dealing = bundle.dealing.message
        if dealing.context != context or set(bundle.sealed) != set(self._names) or self._b(dealing) is None:
            return False
        digests = tuple(hashlib.sha256(bundle.sealed[name]).digest() for name in self._names)
        return digests == dealing.sealed_digests

    def _b(self, dealing: Dealing) -> Residues | None:
        """Return the residues of an opened b, or None if it has none."""
        parameters = self._plan.parameters
        try:
            return residues_from_bytes(dealing.b, parameters.key_primes, degree=parameters.degree)
        except FormatError:
            return None

    def _answered(self, bundle: TrialBundle, key_id: KeyId) -> bool:
        trial = bundle.trial.message
        if trial.key_id != key_id:
            return False
        if trial.complaint:
            return not bundle.answer
        # All answers are shown to everybody in one message: a long one would keep the others from it.
        parameters = self._plan.parameters
        longest = 4 * len(parameters.key_primes) * parameters.degree + _ANSWER_SLACK_BYTES
        return len(bundle.answer) <= longest and hashlib.sha256(bundle.answer).digest() == trial.answer_digest

    def _public_key(self, seen: _Transcript, context: Digest) -> PublicKey:
        """Return the key that these dealings make: what is due is computed, and not put to the vote."""
        parameters = self._plan.parameters
        shares = [b for bundle in seen.dealings if (b := self._b(bundle.dealing.message)) is not None]
        a = expand_public(context, parameters.key_primes, parameters.degree)
        return PublicKey(parameters, a, reduce(key_ring_for(parameters).add, shares))

    async def _certify(
        self, seen: _Transcript, context: Digest
    ) -> tuple[tuple[Authenticated[KeyStatement], ...], bytes]:
        digest, seconds = self._plan.digest, self._seconds
        answers, failures = await self._gather(
            lambda calls: calls.certify_key(digest, seen.trials, timeout_seconds=seconds)
        )
        if any(_says_dead(error) for error in failures.values()):
            raise await self._blame(seen)
        if failures:
            raise self._lost(failures)
        statements = tuple(answers[name][0] for name in self._names)
        public_key = await asyncio.to_thread(self._public_key, seen, context)
        key, b = public_key.digest(), public_key.to_bytes()
        self._require(
            statements,
            lambda made: _vouches(made.message, seen.key_id, digest, context) and made.message.public_key_digest == key,
            "it vouched for another key than the dealings make",
        )
        self._require(
            self._names, lambda name: answers[name][1] == b, "it summed up another key than the dealings make"
        )
        return statements, b

    async def _blame(self, seen: _Transcript) -> CeremonyLostError:
        """Have the seeds opened, and let everybody say who lied."""
        digest, seconds = self._plan.digest, self._seconds
        opened, silent = await self._gather(lambda calls: calls.open_seed(digest, seen.trials, timeout_seconds=seconds))
        self._require(
            tuple(opened.values()),
            lambda opening: opening.message.key_id == seen.key_id,
            "it opened a seed for another key",
            names=tuple(opened),
        )
        openings = tuple(opened[name] for name in self._names if name in opened)
        verdicts, _ = await self._gather(
            lambda calls: calls.lay_blame(digest, openings, seen.dealings, timeout_seconds=seconds),
            tuple(opened),
        )
        named_by = Counter(
            liar
            for verdict in verdicts.values()
            if verdict.message.key_id == seen.key_id
            for liar in set(verdict.message.liars) & set(self._names)
        )
        liars = [name for name in self._names if named_by[name] > self._plan.group.corrupt_holders]
        if liars:
            reason = "it lied in the key ceremony, by the opened seeds"
            return CeremonyLostError(f"{named(liars)} lied in the ceremony", _statuses(liars, _FAULTY, reason))
        if silent:
            return self._lost(silent)
        return CeremonyLostError("the trial failed, and the holders do not agree on who lied", ())

    async def _ask(self, call: Callable[[KeyHolderCalls], Awaitable[T]]) -> tuple[T, ...]:
        answers, failures = await self._gather(call)
        if failures:
            raise self._lost(failures)
        return tuple(answers[name] for name in self._names)

    async def _gather(
        self, call: Callable[[KeyHolderCalls], Awaitable[T]], names: Sequence[HolderId] | None = None
    ) -> tuple[dict[HolderId, T], dict[HolderId, SecAggError]]:
        """Ask holders at once; return what they answered, and how the others failed."""
        asked = self._names if names is None else names
        faults.reach("ceremony.asking")
        results = await asyncio.gather(*(_attempt(self._holders, name, call) for name in asked))
        answers: dict[HolderId, T] = {}
        failures: dict[HolderId, SecAggError] = {}
        for name, (answer, error) in zip(asked, results, strict=True):
            if error is not None:
                failures[name] = error
                _log.warning("holder failed in the ceremony", holder=name, cause=str(error))
            else:
                answers[name] = cast("T", answer)
        return answers, failures

    def _require(
        self, answers: Sequence[T], holds: Callable[[T], bool], reason: str, *, names: Sequence[HolderId] | None = None
    ) -> None:
        asked = self._names if names is None else names
        wrong = [name for name, answer in zip(asked, answers, strict=True) if not holds(answer)]
        if wrong:
            raise CeremonyLostError(f"{named(wrong)}: {reason}", _statuses(wrong, _FAULTY, reason))

    def _lost(self, failures: Mapping[HolderId, SecAggError]) -> CeremonyLostError:
        """Decide whom the next attempt does without: who is proven or accused, who is silent, and only then who refuses."""
        statuses = [*self._accused(failures)] or [
            HolderStatus(holder=name, verdict=verdict, reason=str(error))
            for name, error in failures.items()
            if (verdict := _verdict_on(error)) is not HolderVerdict.SUSPECT
        ]
        restarted: frozenset[HolderId] = frozenset()
        if not statuses:
            restarted = frozenset(
                name for name, error in failures.items() if isinstance(error.__cause__, ConflictError)
            )
            statuses = [
                HolderStatus(holder=name, verdict=HolderVerdict.SUSPECT, reason=str(error))
                for name, error in failures.items()
            ]
        words = "; ".join(f"{status.holder} is {status.verdict.value}: {status.reason}" for status in statuses)
        return CeremonyLostError(words, statuses, restarted=restarted)

    def _accused(self, failures: Mapping[HolderId, SecAggError]) -> Iterator[HolderStatus]:
        """Holders that more than c others call faulty: one of those others is honest."""
        accusers = Counter(
            accused
            for name, error in failures.items()
            if (accused := _accusation(error)) in self._names and accused != name
        )
        for name, count in accusers.items():
            if count > self._plan.group.corrupt_holders:
                yield HolderStatus(
                    holder=HolderId(str(name)), verdict=_FAULTY, reason=f"{count} holders call it faulty"
                )


async def _attempt(
    holders: Holders, name: HolderId, call: Callable[[KeyHolderCalls], Awaitable[T]]
) -> tuple[T | None, SecAggError | None]:
    calls = holders.get(name)
    if calls is None:
        return None, UnreachableError(f"key holder {name}", "the coordinator has no address of it")
    try:
        return await call(calls), None
    except SecAggError as error:
        return None, error


def _verdict_on(error: SecAggError) -> HolderVerdict:
    if isinstance(error, UnreachableError):
        return HolderVerdict.UNREACHABLE
    return _FAULTY if isinstance(error, FaultyKeyHolderError) else HolderVerdict.SUSPECT


def _accusation(error: SecAggError) -> str | None:
    cause = error.__cause__
    return cause.holder_id if isinstance(cause, FaultyKeyHolderError) else None


def _says_dead(error: SecAggError) -> bool:
    return isinstance(error.__cause__, CeremonyError)


def _statuses(names: Iterable[HolderId], verdict: HolderVerdict, reason: str) -> tuple[HolderStatus, ...]:
    return tuple(HolderStatus(holder=name, verdict=verdict, reason=reason) for name in names)


def _for_receiver(dealings: Sequence[DealingBundle], receiver: HolderId) -> tuple[DealingBundle, ...]:
    return tuple(replace(bundle, sealed={receiver: bundle.sealed[receiver]}) for bundle in dealings)


def _vouches(statement: KeyStatement, key_id: KeyId, ceremony: Digest, context: Digest) -> bool:
    return (statement.key_id, statement.ceremony_digest, statement.context) == (key_id, ceremony, context)
