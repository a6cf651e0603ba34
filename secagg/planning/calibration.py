"""What this machine takes for each piece of work: measured by `secagg.planning.measuring`, kept in a file, read by plans."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from secagg.atomic_files import PUBLIC_FILE_MODE, write_atomically
from secagg.cores import usable_cores
from secagg.errors import ConfigError, StorageError

FORMAT: Final = 1
_PACKAGES: Final = ("sumveil", "numpy", "cryptography")
_STRICT: Final = ConfigDict(extra="forbid")
_AGAIN: Final = "Run `secagg plan calibrate` again, or name another file with --calibration"

Seconds = Annotated[float, Field(gt=0, lt=1e6, allow_inf_nan=False)]
"""A time of one piece of work."""


@dataclass(frozen=True, kw_only=True)
class CkksRates:
    """Seconds of one chunk, for one preset and packing; a holder's with 3 of 5 unless it says otherwise.

    Attributes:
        encrypt: a client's, in as many threads as the client uses: encrypted, serialised, hashed.
        encrypt_one_core: the same in one thread.
        receive: the coordinator's for both halves: hashed twice, read, verified, c0 added.
        holder_add: a key holder's for c1 of one client: read, verified, hashed, added.
        partial: a partial decryption but for its smudging.
        partial_subset: the smudging of one subset.
        recover: the opening from answers but for each of them.
        recover_answer: what each answer adds.
        ceremony: a whole key ceremony, for each holder and dealing.
    """

    __pydantic_config__ = _STRICT
    encrypt: Seconds
    encrypt_one_core: Seconds
    receive: Seconds
    holder_add: Seconds
    partial: Seconds
    partial_subset: Seconds
    recover: Seconds
    recover_answer: Seconds
    ceremony: Seconds


@dataclass(frozen=True, kw_only=True)
class MaskingRates:
    """Seconds of the pieces of ``masking``.

    Attributes:
        quantise: one value quantised and packed.
        mask: one word of one mask, in one thread.
        unmask: one word of one mask, in as many threads as the coordinator uses.
        receive: the coordinator's for one value as it comes: hashed twice.
        add: one value unpacked and added, in as many threads.
        agree: one pairwise key.
        seal: one pair of shares sealed to a neighbour, and one from it opened.
        deal: one share's term: a client's dealing takes k·t of them.
        recover: one share in the recovery of one secret.
        reopen: the public key or commitment of one recovered secret, held against the roster.
    """

    __pydantic_config__ = _STRICT
    quantise: Seconds
    mask: Seconds
    unmask: Seconds
    receive: Seconds
    add: Seconds
    agree: Seconds
    seal: Seconds
    deal: Seconds
    recover: Seconds
    reopen: Seconds


@dataclass(frozen=True, kw_only=True)
class SharedRates:
    """Seconds of what both protocols do.

    Attributes:
        pack: one value of an update packed.
        publish: one value of a sum divided, converted and hashed.
        sign: one message signed.
        authenticate: one message authenticated at first sight of its signer: the certificate is read and verified too.
        sync: one file put on disk, however short, where the calibration is kept.
        write: one byte more of it.
    """

    __pydantic_config__ = _STRICT
    pack: Seconds
    publish: Seconds
    sign: Seconds
    authenticate: Seconds
    sync: Seconds
    write: Seconds


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where something was measured."""

    __pydantic_config__ = _STRICT
    cpu: str
    cores: int
    system: str


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """All that was measured. ``ckks``: by preset and packing, as ``"ckks-4096 coefficients"``."""

    __pydantic_config__ = _STRICT
    format: Literal[1] = FORMAT
    taken_at: datetime
    machine: Machine
    versions: dict[str, str]
    shared: SharedRates
    masking: MaskingRates
    ckks: dict[str, CkksRates]

    def differences(self) -> tuple[str, ...]:
        """Say in which ways this was measured elsewhere: another machine, other versions."""
        here, installed = this_machine(), versions()
        found = [
            f"{name} was {getattr(self.machine, name)}, here it is {value}"
            for name, value in asdict(here).items()
            if getattr(self.machine, name) != value
        ]
        found += [
            f"{name} was {self.versions.get(name, 'absent')}, here it is {value}"
            for name, value in installed.items()
            if self.versions.get(name) != value
        ]
        return tuple(found)


_ADAPTER: Final = TypeAdapter(Calibration)


def default_path() -> Path:
    """Return where a calibration is kept unless a file is named: below ``XDG_CACHE_HOME``."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # The specification has relative ones ignored.
    root = Path(cache) if cache.startswith("/") else Path.home() / ".cache"
    return root / "sumveil" / "calibration.json"


def prepare_directory(path: Path) -> None:
    """Make the directory of a file; raises :class:`~secagg.errors.StorageError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{path.parent} cannot be made: {error.strerror}") from error


def save(calibration: Calibration, path: Path) -> None:
    """Write the file in one step; raises :class:`~secagg.errors.StorageError`."""
    prepare_directory(path)
    write_atomically(path, _ADAPTER.dump_json(calibration, indent=2) + b"\n", mode=PUBLIC_FILE_MODE)


def load(path: Path) -> Calibration | None:
    """Return what a file holds, or None where there is no file; raises :class:`~secagg.errors.ConfigError`."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"the calibration {path} cannot be read: {error.strerror}", next_step=_AGAIN) from error
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigError(f"the calibration {path} is damaged at {where}: {first['msg']}", next_step=_AGAIN) from error


def this_machine() -> Machine:
    """Return what this process runs on."""
    return Machine(cpu=_cpu(), cores=usable_cores(), system=f"{platform.system()} {platform.machine()}")


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def versions() -> dict[str, str]:
    """Return the versions that times depend on."""
    return {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def now() -> datetime:
    """Return the time to the second."""
    return datetime.now(UTC).replace(microsecond=0)
