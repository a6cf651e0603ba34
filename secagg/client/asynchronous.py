"""The SDK for code with an event loop."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypedDict

from secagg.channels import open_channel
from secagg.client.progress import ProgressCallback, RoundResult
from secagg.client.threads import in_thread
from secagg.client.updates import Update
from secagg.coordinators import RECONNECT_OPTIONS, Addresses, Channels
from secagg.errors import UsageError
from secagg.identity import Party, Role
from secagg.identity_keeper import followed
from secagg.ids import JobId
from secagg.plan import RoundPlan
from secagg.policy import ClientPolicy
from secagg.tls_identity import TlsIdentity

if TYPE_CHECKING:
    from secagg.client.rounds import Rounds

JOIN_TIMEOUT_SECONDS: Final = 3600.0
SILENCE_SECONDS: Final = 60.0


class ClientArguments(TypedDict):
    """What a configuration says of a client."""

    address: Addresses
    coordinator: str
    identity: TlsIdentity
    policy: ClientPolicy
    spool_dir: Path | None
    state_dir: Path | None


def configured(path: Path | str | None) -> ClientArguments:
    """Read ``client.toml`` and the identity that it names; as :meth:`AsyncClient.from_config`."""
    from secagg.client.config import load_client_settings  # noqa: PLC0415 - loads pydantic, for this alone

    settings = load_client_settings(None if path is None else Path(path))
    return {
        "address": settings.coordinator.address,
        "coordinator": settings.coordinator.name,
        "identity": followed(settings.identity, at=datetime.now(UTC), expect_role=Role.CLIENT),
        "policy": settings.policy.policy(),
        "spool_dir": settings.spool_dir,
        "state_dir": settings.state_dir,
    }


class AsyncClient:
    """Takes part in rounds. Close it, or use it in an ``async with`` block, in one event loop.

    Args:
        address: ``host:port`` of the coordinator, or of each of several that serve one database: whichever answers, and runs
            the job, is called.
        coordinator: the name in the coordinator's certificate, and in that of each of several.
        identity: this client's certificate.
        policy: the weakest plan that it takes part in, and what encrypts.
        spool_dir: where ciphertexts wait between join and upload (24 bytes for each value at ``ckks-4096``, 48 with
            ``real`` packing), and without a ``state_dir`` masked vectors (4 bytes or fewer); the system's directory for
            temporary files when None. Nothing is left there, however a round ends.
        state_dir: a private directory in which a ``masking`` round is kept while it runs: a journal with this round's
            secrets, and the masked vector. After a kill, or when the coordinator was lost, the next call of
            :meth:`participate` goes on with that round. Removed on every other end. Of this client alone, and never to be
            restored from a copy: a second vector of one round gives an update away. None: everything is in memory and in
            files without a name, and a client that ends has dropped out.
        silence_seconds: how long the coordinator may be unreachable, at all of its addresses, at a stretch.

    Raises:
        UsageError: the certificate is of another role, or there is no address.
    """

    def __init__(
        self,
        address: Addresses,
        *,
        coordinator: str,
        identity: TlsIdentity,
        policy: ClientPolicy,
        spool_dir: Path | None = None,
        state_dir: Path | None = None,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        if identity.party.role is not Role.CLIENT:
            raise UsageError(f"{identity.party} is no client", next_step="Use the certificate of a client")
        self._party = Party(role=Role.COORDINATOR, name=coordinator)
        self._identity = identity
        self._policy = policy
        self._spool_dir = spool_dir
        self._state_dir = state_dir
        self._silence_seconds = silence_seconds
        self._channels = Channels(
            address, lambda one: open_channel(one, identity, target=self._party, options=RECONNECT_OPTIONS)
        )

    @classmethod
    def from_config(cls, path: Path | str | None = None) -> Self:
        """Read ``client.toml``; without a path everything comes from the environment.

        Raises:
            ConfigError: the configuration does not fit.
            CertificateError: the certificate does not count now, or is of another role.
        """
        return cls(**configured(path))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection; harmless when they are closed."""
        await self._channels.close()

    async def participate(
        self,
        job: str,
        update: Update,
        weight: float,
        *,
        after_round: int = 0,
        progress: ProgressCallback | None = None,
        join_timeout_seconds: float = JOIN_TIMEOUT_SECONDS,
    ) -> RoundResult:
        """Submit an update to the job's next round and return what that round publishes.

        The update goes to one round only. Cancelling leaves nothing behind, but what a ``state_dir`` keeps of a masking round, for
        another call to go on with; what was uploaded by then may count.

        With a ``state_dir`` that holds an unfinished round of the job later than ``after_round``, this goes on with that
        round: the vector that was masked in it is what counts, whatever update is given here. When that round is over, it
        raises what it would have raised then.

        A process of this client that ended in a round without keeping it has dropped out of that round: this waits for a later
        one, with fresh secrets, and says so in ``Progress.note``. What the earlier process had uploaded may count.

        Args:
            job: the job's name.
            update: numpy arrays with the names, shapes and dtypes of the job; must not change meanwhile.
            weight: above 0, at most the job's ``max_weight``.
            after_round: only a later round will do; after a round, pass its number to take part in the next one.
            progress: called in the event loop with every step.
            join_timeout_seconds: how long to wait for a round that can be joined.

        Raises:
            UsageError: the update does not fit the job (it names the tensor), or the job is complete, or the ``state_dir`` is
                in use or another client's; nothing was sent.
            PolicyError: the plan is weaker than this client's policy; nothing was sent.
            FaultyCoordinatorError: the coordinator showed what an honest one does not show; nothing more was sent.
            RoundAbortedError: the round ended without a result; whether to submit again is the caller's decision.
            LateError: the upload came too late to count.
            UnknownRoundError: no round could be joined in time.
            UnreachableError: the coordinator did not answer for too long, at any address.
            ElsewhereError: nobody ran the job for too long.
            BusyError: the coordinator was busy until the time for that step was over.
            RemoteError: the coordinator answered with a failure that it did not explain, or that cannot be true after the upload;
                the update may count.
            StorageError: something cannot be kept, or what was kept is damaged; it names the file. Or the coordinator could not
                store anything until the time for that step was over. After this one, and the three before ``RemoteError``, a
                round that a ``state_dir`` keeps is gone on with by the next call.
        """
        rounds = await in_thread(self._rounds)
        return await rounds.participate(
            JobId(job),
            update,
            weight,
            after_round=after_round,
            progress=progress,
            join_timeout_seconds=join_timeout_seconds,
        )

    async def next_plan(
        self, job: str, *, after_round: int = 0, join_timeout_seconds: float = JOIN_TIMEOUT_SECONDS
    ) -> RoundPlan:
        """Return the plan of the job's next round without taking part: ``plan.spec`` tells tensors, clip bound and weights.

        Plan and key are checked as :meth:`participate` checks them; it raises what that would raise by then.
        """
        rounds = await in_thread(self._rounds)
        return await rounds.next_plan(JobId(job), after_round=after_round, join_timeout_seconds=join_timeout_seconds)

    def _rounds(self) -> Rounds:
        """Return what runs rounds. Blocking at the first one, which loads the code for it."""
        from secagg.client.rounds import Rounds  # noqa: PLC0415 - a program starts without waiting for it

        return Rounds(
            channels=self._channels,
            coordinator=self._party,
            identity=self._identity,
            policy=self._policy,
            spool_dir=self._spool_dir,
            state_dir=self._state_dir,
            silence_seconds=self._silence_seconds,
        )
