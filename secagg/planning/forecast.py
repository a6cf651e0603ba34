"""All that a plan says of one round before it runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from he.parameters import Parameters
from secagg.masking.parameters import DEFAULT_VALUE_BITS, MaskingParameters
from secagg.plan import CkksJob, JobSpec
from secagg.plan_checks import require
from secagg.planning import limits
from secagg.planning.calibration import Calibration
from secagg.planning.client_bytes import ckks_client, masking_client
from secagg.planning.holder_bytes import holder_traffic
from secagg.planning.limits import Limit
from secagg.planning.memory import coordinator_memory_bytes, spool_bytes
from secagg.planning.question import Question
from secagg.planning.seconds import Work, ckks_work, masking_work, transfer_seconds
from secagg.planning.sizes import Traffic

MISSED_ROUNDS_LOG2: Final = 20
"""A value of a ``ckks`` round's mean is beyond the bound in one round of 2^20, at most."""
FLOAT64_SHARE: Final = 2.0**-40
"""Of clip: what float64 arithmetic adds on the way into the ring and back."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """One protocol's round, everybody at full weight.

    Attributes:
        spec: the job that it would be.
        client: one client's bytes.
        key_holder: one key holder's; None where there are none.
        upload: seconds that a client's bytes are under way; None without an uplink.
        work: seconds of computing; None without a calibration.
        memory_bytes: the coordinator's, at the most.
        disk_bytes: the coordinator's, likewise.
        error: of a mean of the fewest contributors, as a job's ``precision`` is compared with it, in units of clip: a deviation in
            ``ckks``, a bound in ``masking``.
        error_bound: what no value of that mean exceeds, in units of clip; in ``ckks`` but once in 2^20 rounds.
        limits: every bound that the round has to stay within.
    """

    spec: JobSpec
    client: Traffic
    key_holder: Traffic | None
    upload: float | None
    work: Work | None
    memory_bytes: int
    disk_bytes: int
    error: float
    error_bound: float
    limits: tuple[Limit, ...]

    @property
    def protocol(self) -> str:
        """Name of the protocol."""
        return self.spec.protocol.NAME

    @property
    def first_limit(self) -> Limit:
        """The limit that comes first."""
        return limits.first(self.limits)


@dataclass(frozen=True, kw_only=True)
class Ckks:
    """How a ``ckks`` round is set up."""

    holders: int = 5
    threshold: int = 3
    preset: str = CkksJob.preset
    packing: str = CkksJob.packing

    def job(self, question: Question) -> JobSpec:
        """Return the job; :class:`~secagg.errors.PlanError` names the number to change where it cannot be one."""
        return question.ckks_job(
            holders=self.holders, threshold=self.threshold, preset=self.preset, packing=self.packing
        )


def forecast_ckks(
    question: Question, setup: Ckks, *, calibration: Calibration | None = None, memory_there: int | None = None
) -> Forecast:
    """Forecast a ``ckks`` round; ``memory_there``: bytes of the coordinator's machine.

    Raises :class:`~secagg.errors.PlanError` naming the number to change.
    """
    spec = setup.job(question)
    work, holder = None if calibration is None else ckks_work(spec, calibration), holder_traffic(spec)
    deviation = _deviation(spec, question.least)
    found = _Found(
        spec=spec,
        question=question,
        traffic=ckks_client(spec),
        upload_bytes=_ciphertext_bytes(spec.parameters(setup.holders)),
        error=deviation,
        error_bound=_ckks_bound(spec, deviation),
    )

    def plan(clients: int) -> None:
        one = setup.job(replace(question, clients=clients, min_contributors=question.least))
        # The job holds one deviation against its precision; what was asked for here is a bound of every value.
        require(_ckks_bound(one, _deviation(one, question.least)) <= question.asked_precision, "it errs too much")

    bounds = [*found.limits(0.0, plan), *_holders_limits(spec, question, work, holder.total_down)]
    return found.forecast(bounds, memory_there, key_holder=holder, work=work)


def forecast_masking(
    question: Question,
    *,
    value_bits: int = DEFAULT_VALUE_BITS,
    calibration: Calibration | None = None,
    memory_there: int | None = None,
) -> Forecast:
    """Forecast a ``masking`` round, as :func:`forecast_ckks` does a ``ckks`` one."""
    numbers, parameters = question.numbers, _masking_parameters(question, value_bits)
    spec = question.masking_job(value_bits)
    traffic = masking_client(spec, numbers)
    work = None if calibration is None else masking_work(spec, numbers, calibration)
    error = parameters.mean_error(question.least) / spec.clip
    found = _Found(
        spec=spec,
        question=question,
        traffic=traffic,
        upload_bytes=parameters.vector_bytes,
        error=error,
        error_bound=error + rounding(spec),
    )
    computing = 0.0 if work is None else work.client["masking"]
    bounds = found.limits(
        computing, lambda n: replace(question, clients=n, min_contributors=None).masking_job(value_bits)
    )
    return found.forecast(bounds, memory_there, key_holder=None, work=work, neighbours=numbers.neighbours)


def _masking_parameters(question: Question, value_bits: int) -> MaskingParameters:
    # Before the job: what overflows is named by its own number, and so is what no precision would be reached with.
    parameters = MaskingParameters(
        values=question.values + 1, max_clients=question.clients, clip=question.clip, value_bits=value_bits
    )
    require(
        math.isfinite(parameters.mean_error(question.least)),
        f"the weight of {question.least} contributors may vanish in the rounding of value_bits {value_bits}: raise value_bits",
    )
    return parameters


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What both protocols go on from."""

    spec: JobSpec
    question: Question
    traffic: Traffic
    upload_bytes: int
    error: float
    error_bound: float

    @property
    def upload(self) -> float | None:
        mbit = self.question.uplink_mbit
        return None if mbit is None else transfer_seconds(self.traffic.total_up, mbit)

    def limits(self, computing: float, plan: Callable[[int], object]) -> list[Limit]:
        spec, mbit, upload = self.spec, self.question.uplink_mbit, self.upload
        found = [limits.length(spec), limits.clients(spec, plan), limits.spool(spool_bytes(spec, self.upload_bytes))]
        if mbit is not None and upload is not None:
            bytes_up = self.traffic.total_up
            found.append(limits.uplink(spec, bytes_up=bytes_up, mbit=mbit, upload=upload, computing=computing))
        asked = self.question.precision
        if asked is not None:
            found.append(limits.precision(spec, error=self.error_bound, rounding=rounding(spec), asked=asked))
        return found

    def forecast(
        self,
        bounds: list[Limit],
        memory_there: int | None,
        *,
        key_holder: Traffic | None,
        work: Work | None,
        neighbours: int = 0,
    ) -> Forecast:
        memory = coordinator_memory_bytes(self.spec, neighbours)
        if memory_there is not None:
            bounds = [*bounds, limits.memory(memory, memory_there)]
        return Forecast(
            spec=self.spec,
            client=self.traffic,
            key_holder=key_holder,
            upload=self.upload,
            work=work,
            memory_bytes=memory,
            disk_bytes=spool_bytes(self.spec, self.upload_bytes),
            error=self.error,
            error_bound=self.error_bound,
            limits=tuple(bounds),
        )


def _holders_limits(spec: JobSpec, question: Question, work: Work | None, bytes_down: int) -> list[Limit]:
    """Limits of what is known of the key holders: their computing, their link, or both."""
    mbit, found = question.holder_link_mbit, []
    reading = None if mbit is None else transfer_seconds(bytes_down, mbit)
    adding = None if work is None else work.key_holder["adding c1"] + work.key_holder["signatures"]
    if adding is not None or reading is not None:
        found.append(limits.approving(spec, computing=adding, bytes_down=bytes_down, reading=reading))
    if work is not None:
        found.append(limits.decrypting(spec, computing=work.key_holder["answering"]))
    return found


def _deviation(spec: JobSpec, least: int) -> float:
    """Return the deviation of a ``ckks`` mean of so many clients of full weight, in units of clip."""
    return spec.parameters(len(spec.ckks.holders)).mean_error(least, least) / spec.clip


def _ckks_bound(spec: JobSpec, deviation: float) -> float:
    return deviations(spec.values) * deviation + rounding(spec)


def _ciphertext_bytes(parameters: Parameters) -> int:
    return 2 * parameters.chunks * 4 * len(parameters.data_primes) * parameters.degree


def deviations(values: int) -> float:
    """Return so many deviations that none of ``values`` normal values is beyond them, but once in 2^20 rounds.

    values · P[|X| > z] <= 2 · values · exp(-z²/2), the union bound over Chernoff's.
    """
    return math.sqrt(2 * (math.log(2 * values) + MISSED_ROUNDS_LOG2 * math.log(2)))


def rounding(spec: JobSpec) -> float:
    """Return what the mean's own dtype and float64 arithmetic add to an error, in units of clip."""
    coarsest = max(float(np.finfo(tensor.dtype).eps) for tensor in spec.tensors)
    return coarsest / 2 + FLOAT64_SHARE


def ckks_proof(parameters: Parameters) -> str:
    """Return one line that shows that no coefficient of the sum overflows, smudging and noise included."""
    bound, room = math.log2(parameters.coefficient_bound), math.log2(7 / 16) + math.log2(parameters.data_modulus)
    signal = (
        f"{parameters.max_clients:,} clients x clip {parameters.clip:g} x scale 2^{math.log2(parameters.scale):.4g}"
    )
    if parameters.packing == "complex":
        # A slot x + i·y is as large as its diagonal.
        signal += " x sqrt(2)"
    return f"{signal} + 8 deviations of noise = 2^{bound:.3f} <= 7/8 of Q/2 = 2^{room:.3f}"
