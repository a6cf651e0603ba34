"""A job as a person writes it down: a TOML file, or tensors on a command line (``docs/samples/job.toml``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, ValidationError, model_validator

from secagg.config import PartyName, Settings, load_settings
from secagg.errors import UsageError
from secagg.ids import HolderId, JobId
from secagg.plan import CkksJob, Deadlines, JobSpec, MaskingJob, TensorSpec

ENV_PREFIX: Final = "SECAGG_JOB_"


class TensorSettings(Settings):
    """One array of an update."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"

    def spec(self) -> TensorSpec:
        """Return it as a plan has it; raises :class:`~secagg.errors.PlanError`."""
        return TensorSpec(name=self.name, shape=self.shape, dtype=self.dtype)


class DeadlineSettings(Settings):
    """Seconds that each phase may last."""

    keying_seconds: float = Deadlines.keying_seconds
    open_seconds: float = Deadlines.open_seconds
    uploading_seconds: float = Deadlines.uploading_seconds
    approving_seconds: float = Deadlines.approving_seconds
    decrypting_seconds: float = Deadlines.decrypting_seconds
    sharing_seconds: float = Deadlines.sharing_seconds
    confirming_seconds: float = Deadlines.confirming_seconds
    unmasking_seconds: float = Deadlines.unmasking_seconds

    def deadlines(self) -> Deadlines:
        """Return them as a plan has them; raises :class:`~secagg.errors.PlanError`."""
        return Deadlines(**self.model_dump())


class CkksSettings(Settings):
    """The part of a job that belongs to ``ckks``."""

    holders: tuple[PartyName, ...]
    threshold: int = CkksJob.threshold
    corrupt_holders: int = CkksJob.corrupt_holders
    min_holders: int = CkksJob.min_holders
    preset: str = CkksJob.preset
    packing: str = CkksJob.packing
    security_bits: int = CkksJob.security_bits
    precision: float = CkksJob.precision

    def job(self) -> CkksJob:
        """Return it as a plan has it; raises :class:`~secagg.errors.PlanError`."""
        values = self.model_dump(exclude={"holders"})
        return CkksJob(holders=tuple(HolderId(name) for name in self.holders), **values)


class MaskingSettings(Settings):
    """The part of a job that belongs to ``masking``."""

    value_bits: int = MaskingJob.value_bits
    precision: float = MaskingJob.precision
    corrupt_fraction: float = MaskingJob.corrupt_fraction
    dropout_fraction: float = MaskingJob.dropout_fraction

    def job(self) -> MaskingJob:
        """Return it as a plan has it; raises :class:`~secagg.errors.PlanError`."""
        return MaskingJob(**self.model_dump())


class JobFile(Settings):
    """A whole job. Of ``ckks`` and ``masking`` it has the part that ``protocol`` names."""

    job: PartyName
    purpose: str
    protocol: Literal["ckks", "masking"] = "ckks"
    tensors: Annotated[tuple[TensorSettings, ...], Field(min_length=1)]
    clip: float = JobSpec.clip
    max_weight: float = JobSpec.max_weight
    min_total_weight: float = JobSpec.min_total_weight
    min_contributors: int
    max_clients: int
    rounds: int = JobSpec.rounds
    deadlines: DeadlineSettings = DeadlineSettings()
    ckks: CkksSettings | None = None
    masking: MaskingSettings | None = None

    @model_validator(mode="after")
    def _has_one_protocol(self) -> Self:
        other = "masking" if self.protocol == "ckks" else "ckks"
        if getattr(self, other) is not None:
            raise ValueError(f"protocol is {self.protocol!r}, so [{other}] cannot stand beside it")
        if self.protocol == "ckks" and self.ckks is None:
            raise ValueError("protocol 'ckks' needs the part [ckks], which names the key holders")
        return self

    @property
    def _arm(self) -> CkksJob | MaskingJob:
        if self.ckks is not None:
            return self.ckks.job()
        return (self.masking or MaskingSettings()).job()

    def spec(self) -> JobSpec:
        """Return the job, which proves itself; raises :class:`~secagg.errors.PlanError` naming the number to change."""
        return JobSpec(
            job=JobId(self.job),
            tensors=tuple(tensor.spec() for tensor in self.tensors),
            protocol=self._arm,
            min_contributors=self.min_contributors,
            max_clients=self.max_clients,
            purpose=self.purpose,
            clip=self.clip,
            max_weight=self.max_weight,
            min_total_weight=self.min_total_weight,
            rounds=self.rounds,
            deadlines=self.deadlines.deadlines(),
        )


def load_job(path: Path) -> JobSpec:
    """Read a job from a TOML file.

    Raises:
        ConfigError: the file cannot be read, or a key does not fit; it names file and key.
        PlanError: the job cannot keep its promises; it names the number to change.
    """
    return load_settings(JobFile, path, ENV_PREFIX).spec()


def job_of_values(values: Mapping[str, Any]) -> JobSpec:
    """Return the job of a file with these keys and values.

    Raises:
        UsageError: a value does not fit; it is named and not shown.
        PlanError: the job cannot keep its promises; it names the number to change.
    """
    try:
        return JobFile.model_validate(dict(values)).spec()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{key}: {first['msg'].removeprefix('Value error, ')}") from None


def parse_tensor(text: str) -> TensorSpec:
    """Read ``name:64x32:float32``; a scalar has an empty shape, and the dtype may be left out.

    Raises:
        UsageError: it is not of that form.
        PlanError: no plan could hold such a tensor.
    """
    advice = "Write NAME:SHAPE:DTYPE, such as layer.weight:64x32:float32"
    name, *rest = text.split(":")
    if not 1 <= len(rest) <= 2:
        raise UsageError(f"{text[:80]!r} does not describe a tensor", next_step=advice)
    sizes = [size for size in rest[0].split("x") if size]
    if not all(size.isdecimal() for size in sizes):
        raise UsageError(f"{rest[0][:80]!r} is not the shape of a tensor", next_step=advice)
    dtype = rest[1] if len(rest) > 1 else "float32"
    return TensorSpec(name=name, shape=tuple(int(size) for size in sizes), dtype=dtype)
