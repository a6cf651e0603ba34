"""What operators and auditors see of a key holder in numbers."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from secagg.key_holder.book import RoundBook


class KeyHolderMetrics:
    """Counters of what was answered, gauges of what is held."""

    def __init__(self, registry: CollectorRegistry, book: RoundBook) -> None:
        self.answered = Counter(
            "secagg_key_holder_answered", "Calls that got a signed answer, by its kind.", ["kind"], registry=registry
        )
        self.c1_bytes = Counter(
            "secagg_key_holder_c1_bytes", "Bytes of c1 that were verified and added.", registry=registry
        )
        rounds = Gauge("secagg_key_holder_rounds", "Rounds under way.", registry=registry)
        rounds.set_function(lambda: len(book.rounds))
        shares = Gauge("secagg_key_holder_shares", "Key shares that are not destroyed yet.", registry=registry)
        shares.set_function(lambda: book.shares)
