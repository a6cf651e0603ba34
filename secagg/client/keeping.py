"""What a client keeps of a masking round while it runs: its events, and the one vector that it masked.

With a ``state_dir`` both outlive the process, so that a client that was killed goes on where it was; without one, a client
that ends has dropped out. Everything here blocks: the driver calls it in an executor.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Final

from secagg.atomic_files import PRIVATE_FILE_MODE, sync_directory
from secagg.client.journal import Journal, Record
from secagg.client.kept_events import Kind
from secagg.client.private_files import make_private
from secagg.client.spool import SpoolFile, kept_vector_in, vector_in
from secagg.errors import PlanError, RoundAbortedError, StorageError, UsageError
from secagg.identity import Party
from secagg.ids import Digest, JobId
from secagg.plan import check_name

_READ_BYTES: Final = 1 << 20
_LOST: Final = "the masked vector was lost in the restart of this client, which has dropped out"


class Keeping(ABC):
    """Keeps one round at a time; opened once, closed once."""

    def __init__(self) -> None:
        self._vector: SpoolFile | None = None

    @property
    def vector(self) -> SpoolFile:
        """The masked vector, once it was made or found."""
        if self._vector is None:
            raise UsageError("nothing was masked yet")
        return self._vector

    @abstractmethod
    def open(self) -> tuple[Record, ...]:
        """Return the events of a round that an earlier process did not end; empty when there is none."""

    @abstractmethod
    def note(self, record: Record) -> None:
        """Keep an event: it outlives this process when this returns."""

    @abstractmethod
    def new_vector(self) -> None:
        """Make the empty file of the vector."""

    @abstractmethod
    def find_vector(self, digest: Digest, size: int) -> None:
        """Find the vector that an earlier process masked.

        Raises:
            RoundAbortedError: it is not there as it was: this client has dropped out.
        """

    @abstractmethod
    def forget(self) -> None:
        """Remove all that is kept of the round; another may begin."""

    def release(self) -> None:
        """Close the vector; without a name, its space is free again."""
        if self._vector is not None:
            self._vector.close()

    def close(self) -> None:
        """Let go of everything."""
        self.release()


class KeepingNothing(Keeping):
    """Keeps a vector in a file without a name, and events nowhere.

    Args:
        spool_dir: where the file lies; None: the system's directory for temporary files.
    """

    def __init__(self, spool_dir: Path | None) -> None:
        super().__init__()
        self._place = vector_in(spool_dir)

    def open(self) -> tuple[Record, ...]:
        """Nothing is there."""
        return ()

    def note(self, record: Record) -> None:
        """Events are in the machine's state alone."""

    def new_vector(self) -> None:
        """Make a file without a name."""
        self.release()
        self._vector = SpoolFile.nameless(self._place)

    def find_vector(self, digest: Digest, size: int) -> None:  # noqa: ARG002 - whatever it was
        """No vector outlives its process."""
        raise RoundAbortedError(_LOST)

    def forget(self) -> None:
        """Give the vector's space back."""
        self.release()


class KeepingOnDisk(Keeping):
    """Keeps journal and vector in a private directory, one of each for a job.

    Args:
        directory: of this client alone. Never restore it from a copy: a client that masks two vectors in one round, or reveals
            shares for two sets of survivors, gives itself away.
        job: whose rounds.
        client: whose part.
        coordinator: with whom.

    Raises:
        UsageError: the job's name cannot be that of a file.
    """

    def __init__(self, directory: Path, *, job: JobId, client: Party, coordinator: Party) -> None:
        super().__init__()
        _verify_name(job)
        self._directory = directory
        self._path = directory / f"{job}.vector"
        self._place = kept_vector_in(directory)
        self._owner = {"format": "1", "job": str(job), "client": str(client), "coordinator": str(coordinator)}
        self._journal: Journal | None = None

    def open(self) -> tuple[Record, ...]:
        """Open the journal, alone.

        Raises:
            UsageError: it is in use, or of another client or coordinator.
            StorageError: it is damaged, or cannot be read.
        """
        make_private(self._directory)
        journal = Journal.open(self._path.with_suffix(".journal"))
        try:
            records = journal.records
            if records:
                self._verify_owner(records[0])
        except BaseException:
            journal.close()
            raise
        self._journal = journal
        if len(records) < 2:
            # Without an event of a round, a vector is what a process left that was killed while it forgot.
            self.forget()
        return records[1:]

    def _verify_owner(self, record: Record) -> None:
        try:
            owner = json.loads(record.payload)
        except ValueError:
            owner = {}
        if record.kind != Kind.OWNER or not isinstance(owner, dict) or owner.get("format") != self._owner["format"]:
            advice = "Remove its files: this client drops out of that round"
            raise StorageError(f"what {self._directory} holds is of another version", next_step=advice)
        for what in ("job", "client", "coordinator"):
            if owner.get(what) != self._owner[what]:
                advice = "Give each client, and each coordinator, a state_dir of its own"
                message = f"{self._directory} holds a round of {what} {owner.get(what)}, not of {self._owner[what]}"
                raise UsageError(message, next_step=advice)

    def note(self, record: Record) -> None:
        """Append to the journal."""
        journal = self._opened
        if journal.empty:
            journal.append(Record(kind=Kind.OWNER, payload=json.dumps(self._owner).encode()))
        journal.append(record)

    def new_vector(self) -> None:
        """Make the file; what a process left there that was killed while it masked was never sent."""
        self.release()
        try:
            self._vector = self._file(os.O_CREAT | os.O_TRUNC)
            sync_directory(self._directory)
        except OSError as error:
            raise self._place.failed(error) from error

    def find_vector(self, digest: Digest, size: int) -> None:
        """Open the file and read all of it."""
        try:
            file = self._file(0)
        except OSError as error:
            raise RoundAbortedError(_LOST) from error
        self._vector = file
        if os.fstat(file.fileno()).st_size != size or not hmac.compare_digest(_sha256(file, size), digest):
            raise RoundAbortedError(_LOST)

    def forget(self) -> None:
        """Empty the journal, then remove the vector: never the other way round."""
        journal = self._opened
        self.release()
        journal.clear()
        try:
            self._path.unlink(missing_ok=True)
            sync_directory(self._directory)
        except OSError as error:
            raise self._place.failed(error) from error

    def close(self) -> None:
        """Close the journal; an empty one is removed."""
        super().close()
        journal, self._journal = self._journal, None
        if journal is None:
            return
        with contextlib.suppress(StorageError):
            if journal.empty:
                journal.remove()
        journal.close()

    def _file(self, flags: int) -> SpoolFile:
        descriptor = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | flags, PRIVATE_FILE_MODE)
        os.fchmod(descriptor, PRIVATE_FILE_MODE)
        return SpoolFile(os.fdopen(descriptor, "r+b", buffering=0), self._place)

    @property
    def _opened(self) -> Journal:
        if self._journal is None:
            raise UsageError("the journal is not open")
        return self._journal


def _verify_name(job: JobId) -> None:
    try:
        check_name(job, "job")
    except PlanError as error:
        raise UsageError(error.reason, next_step="Give the job's name as `secagg job list` shows it") from error


def _sha256(file: SpoolFile, size: int) -> bytes:
    digest = hashlib.sha256()
    for offset in range(0, size, _READ_BYTES):
        digest.update(file.read(offset, _READ_BYTES))
    return digest.digest()
