"""The demo from beginning to end: secure and plain training side by side, reported round by round."""

from __future__ import annotations

import json
import queue
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from secagg.demo import model
from secagg.demo.data import Examples, load_digits, split
from secagg.demo.deployment import COORDINATOR, OPERATOR, Deployment
from secagg.demo.handover import load_model, save_model
from secagg.demo.options import CLIP, DemoOptions
from secagg.demo.processes import Child, Household, uninterrupted
from secagg.errors import SecAggError, UnreachableError
from secagg.ids import RoundNumber
from secagg.messages.round import Phase, RoundStatus
from secagg.operator import OperatorClient
from secagg.party import Party, Role
from secagg.plan import JobSpec
from secagg.tls_identity import TlsIdentity

ROUND_LIMIT_SECONDS = 300.0
MAX_LINES = 1000


@dataclass(frozen=True, kw_only=True)
class RoundReport:
    """One published round, secure beside plain. ``difference``: the largest of any averaged weight."""

    index: int
    status: RoundStatus
    contributors: tuple[str, ...]
    accuracy_secure: float
    accuracy_plain: float
    difference: float
    bytes_per_value: float

    @property
    def phase_seconds(self) -> dict[Phase, float]:
        """How long each phase took."""
        started = sorted(self.status.phase_started.items(), key=lambda item: item[1])
        ends = [at for _, at in started[1:]]
        return {phase: end - at for (phase, at), end in zip(started, ends, strict=False)}

    @property
    def seconds(self) -> float:
        """How long the round took, from its beginning to its sum."""
        return sum(self.phase_seconds.values())


@dataclass(kw_only=True)
class Demo:
    """One run of the demo. Iterate over :meth:`rounds` inside :func:`running`."""

    options: DemoOptions
    deployment: Deployment
    spec: JobSpec
    examples: list[Examples]
    test: Examples
    plain: model.Weights
    operator: OperatorClient
    lines: queue.Queue[dict[str, Any]] = field(default_factory=lambda: queue.Queue(MAX_LINES))

    def rounds(self) -> Iterator[RoundReport]:
        """Run every round; yield a report as soon as its sum is published."""
        after = 0
        vanishing = self._vanishing()
        for number in range(self.options.clients):
            self._start_client(number, first_round=0, after=0, vanishing=vanishing)
        for index in range(self.options.rounds):
            self._kill_holders(index)
            lines = self._collect(index, self.options.clients - len(vanishing[index]))
            report, model_path = self._report(index, lines)
            after = int(report.status.round)
            yield report
            if index + 1 < self.options.rounds:
                for number in vanishing[index]:
                    self._start_client(
                        number, first_round=index + 1, after=after, vanishing=vanishing, start=model_path
                    )

    def _vanishing(self) -> list[tuple[int, ...]]:
        generator = np.random.default_rng([self.options.seed, 1])
        chosen = (
            generator.choice(self.options.clients, size=self.options.dropouts, replace=False)
            for _ in range(self.options.rounds)
        )
        return [tuple(int(number) for number in numbers) for numbers in chosen]

    def _start_client(
        self, number: int, *, first_round: int, after: int, vanishing: list[tuple[int, ...]], start: Path | None = None
    ) -> None:
        vanish = next((i for i in range(first_round, self.options.rounds) if number in vanishing[i]), None)
        start = start or self.deployment.directory / "initial.npz"
        self.deployment.start_client(
            number, job=self.spec.job, model=start, first_round=first_round, after=after, vanish=vanish
        )
        child = self.deployment.household.children[self.options.client_names[number]]
        threading.Thread(target=self._listen, args=(child, number), daemon=True).start()

    def _listen(self, child: Child, number: int) -> None:
        try:
            for line in child.output:
                self.lines.put({"number": number, **json.loads(line)})
        except ValueError:
            return  # the pipe was closed under us: the demo ends

    def _kill_holders(self, index: int) -> None:
        if index == 1:
            for name in self.options.protocol.dying_holders:
                self.deployment.household.kill(name)

    def _collect(self, index: int, expected: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        deadline = time.monotonic() + ROUND_LIMIT_SECONDS
        while len(found) < expected:
            if time.monotonic() > deadline:
                raise UnreachableError(COORDINATOR, f"round {index + 1} did not end within {ROUND_LIMIT_SECONDS:.0f} s")
            self.deployment.household.check()
            try:
                line = self.lines.get(timeout=0.2)
            except queue.Empty:
                continue
            if line["index"] == index and "round" in line:
                found.append(line)
        return found

    def _report(self, index: int, lines: list[dict[str, Any]]) -> tuple[RoundReport, Path]:
        first = lines[0]
        secure = [load_model(Path(line["model"])) for line in lines]
        if any(model.largest_difference(secure[0], other) > 0 for other in secure[1:]):
            raise SecAggError("the clients do not have the same model", next_step="Report this: it must never happen")
        self._train_plain(index, first["contributors"])
        report = RoundReport(
            index=index,
            status=self.operator.get_round(self.spec.job, RoundNumber(first["round"])),
            contributors=tuple(first["contributors"]),
            accuracy_secure=model.accuracy(secure[0], self.test),
            accuracy_plain=model.accuracy(self.plain, self.test),
            difference=model.largest_difference(secure[0], self.plain),
            bytes_per_value=first["uploaded_bytes"] / self.spec.values,
        )
        return report, Path(first["model"])

    def _train_plain(self, index: int, contributors: list[str]) -> None:
        numbers = [self.options.client_names.index(name) for name in contributors]
        updates = []
        for number in numbers:
            generator = model.local_generator(self.options.seed, number, index)
            updates.append(model.clipped(model.train(self.plain, self.examples[number], generator), CLIP))
        mean = model.weighted_mean(updates, [len(self.examples[number]) for number in numbers])
        self.plain = model.apply(self.plain, mean)


@contextmanager
def running(options: DemoOptions) -> Iterator[Demo]:
    """Start the deployment and create the job; leave no process and no file behind, whatever happens."""
    with tempfile.TemporaryDirectory(prefix="secagg-demo-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        household = Household(directory=directory)
        try:
            yield _prepared(options, Deployment(directory=directory, options=options, household=household))
        finally:
            with uninterrupted():
                household.stop()


def _prepared(options: DemoOptions, deployment: Deployment) -> Demo:
    generator = np.random.default_rng(options.seed)
    training, test = load_digits(generator)
    examples = split(training, options.clients, generator)
    weights = model.initial(generator)
    save_model(deployment.directory / "initial.npz", weights)
    for number, share in enumerate(examples):
        deployment.write_examples(number, share)
    deployment.certify()
    deployment.start_services()
    spec = options.job(max_weight=float(max(len(share) for share in examples)))
    operator = _operator(deployment)
    operator.create_job(spec)
    return Demo(
        options=options,
        deployment=deployment,
        spec=spec,
        examples=examples,
        test=test,
        plain=weights,
        operator=operator,
    )


def _operator(deployment: Deployment) -> OperatorClient:
    identity = TlsIdentity.load(deployment.identity(Role.OPERATOR, OPERATOR), at=datetime.now(UTC))
    return OperatorClient(deployment.address, identity, coordinator=Party(role=Role.COORDINATOR, name=COORDINATOR))
