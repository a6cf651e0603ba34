"""What Prometheus sees of the rounds: counts and seconds, by job never, so that names do not multiply the series."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from secagg.messages.round import HolderStatus, Phase

_PHASE_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)


class RoundMetrics:
    """The coordinator's round metrics, in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._rounds = Counter("secagg_rounds", "Rounds by how they ended.", ["end"], registry=registry)
        self._contributions = Counter("secagg_contributions", "Contributions that were counted.", registry=registry)
        self._refusals = Counter("secagg_contributions_refused", "Uploads that were refused.", registry=registry)
        self._received = Counter("secagg_upload_bytes", "Bytes of uploads that were spooled.", registry=registry)
        self._verdicts = Counter(
            "secagg_holder_verdicts", "Key holders by what became of them.", ["holder", "verdict"], registry=registry
        )
        self._phases = Histogram(
            "secagg_phase_seconds", "Seconds per phase.", ["phase"], registry=registry, buckets=_PHASE_BUCKETS
        )
        self._uploads = Gauge("secagg_uploads_running", "Uploads that are running.", registry=registry)

    def phase_left(self, phase: Phase, seconds: float) -> None:
        """Observe how long a round stood in a phase."""
        self._phases.labels(phase=phase.value).observe(max(0.0, seconds))

    def round_ended(self, phase: Phase, holders: tuple[HolderStatus, ...]) -> None:
        """Count an end, and what became of every holder."""
        self._rounds.labels(end=phase.value).inc()
        for status in holders:
            self._verdicts.labels(holder=status.holder, verdict=status.verdict.value).inc()

    def contribution_counted(self) -> None:
        """Count a contribution."""
        self._contributions.inc()

    def contribution_refused(self) -> None:
        """Count an upload that must not count."""
        self._refusals.inc()

    def bytes_received(self, count: int) -> None:
        """Add to what was spooled."""
        self._received.inc(count)

    def uploads_running(self, change: int) -> None:
        """Follow how many uploads run."""
        self._uploads.inc(change)
