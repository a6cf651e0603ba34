"""How many neighbours, and how many of them open a share: (k, t, q) for n clients, C corrupt ones and D drop-outs.

Each client deals shares of two secrets, its mask key and its self-mask seed, to its k neighbours; t of them give one secret
back. Up to ``COMPLETE_UP_TO`` clients everyone neighbours everyone. Above, the clients stand on a ring in uniformly random
order, each joined to the k/2 nearest on either side. Why nobody learns more than the sum of the confirmed survivors, whatever
the coordinator says about who dropped out:

1. One survivor set. q clients must have signed a set before an honest client reveals anything. 2q > n + C, so any two sets
   with q signers share an honest signer, who signs once: there is one set. q is no less than ``min_contributors`` either: a
   survivor that did not sign may be a ghost, an honest client's join from another roster of the same plan, whose mask key is
   open there, so only signers count.
2. Never both secrets of a client. An honest neighbour gives one kind of share, a corrupt one both: t shares of each kind
   would take 2t <= k + c_i, with c_i the corrupt among the k neighbours.
3. One component. Pair masks cancel within a component of the graph of honest survivors, so a part S without an edge to the
   other honest survivors would open by itself. Going round the ring, S ends somewhere and begins again elsewhere: the client
   of S at either end has no honest survivor among the next k/2 positions outwards, or there would be an edge. It needs t
   shares, at most k/2 come from its other side, so each of the two windows of k/2 positions holds t - k/2 corrupt clients
   or more. An other honest survivor stands between the windows, so they are disjoint: k positions with 2t - k corrupt ones.

With the complete graph 2 is ``2t > k + C`` and 3 holds by itself. On the ring, both fail only if 2t - k corrupt clients or
more stand on one of n neighbourhoods or of at most n(n-1)/2 pairs of windows. Each is a fixed set of k positions, so it holds
a hypergeometric number HG(n, C, k) of corrupt clients. The coordinator can try rosters until one suits it: the union of these
events is held below 2^-100. Drop-outs can only stop a round, so for them 2^-20 is enough.

Source: Bonawitz et al. 2017, section 6; Bell et al. 2020, section 3, with thresholds for a survivor set that all sign.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple

from secagg.errors import PlanError
from secagg.masking.tails import hypergeometric_tail, log2_of, smallest_count

SPLIT_BITS: Final = 100
"""The chance that some order of the ring betrays a client or splits the survivors is at most 2 to minus this."""
AVAILABILITY_BITS: Final = 20
"""The chance that some client is left with fewer than t living neighbours is at most 2 to minus this."""
COMPLETE_UP_TO: Final = 200
"""Up to so many clients everyone neighbours everyone."""
FEWEST_HONEST: Final = 2
"""A sum with one honest update in it is that update."""


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """One round's numbers: n, C, D, k, t and q. A value only: :func:`verify_numbers` says whether they are safe."""

    clients: int
    corrupt: int
    dropped: int
    neighbours: int
    threshold: int
    quorum: int

    @property
    def complete(self) -> bool:
        """Whether everyone neighbours everyone."""
        return self.neighbours == self.clients - 1


def corrupt_count(clients: int, fraction: float) -> int:
    """Return ceil(fraction·clients), exactly for the decimal that is written: 7 for 0.07 of 100, where floats say 8."""
    exact = _exact(fraction, "corrupt_fraction")
    return -(-clients * exact.numerator // exact.denominator)


def dropped_count(clients: int, fraction: float, min_contributors: int) -> int:
    """Return how many drop-outs a round must bear: ceil(fraction·clients), but no more than leave ``min_contributors``."""
    exact = _exact(fraction, "dropout_fraction")
    return max(0, min(-(-clients * exact.numerator // exact.denominator), clients - min_contributors))


def quorum_of(clients: int, corrupt: int) -> int:
    """Return the fewest signers q with 2q > n + C: any two sets of q signers share an honest client."""
    return (clients + corrupt) // 2 + 1


@lru_cache(maxsize=256)
def plan_numbers(clients: int, *, corrupt_fraction: float, dropout_fraction: float, min_contributors: int) -> Numbers:
    """Return the numbers with the fewest neighbours, and the lowest threshold that is safe with them.

    Raises :class:`PlanError` naming the number to change when even the complete graph cannot bear the drop-outs.
    """
    _require_bearable([clients], corrupt_fraction, dropout_fraction, min_contributors)
    corrupt = corrupt_count(clients, corrupt_fraction)
    dropped = dropped_count(clients, dropout_fraction, min_contributors)
    neighbours, threshold = _fewest_neighbours(clients, corrupt, dropped)
    return Numbers(
        clients=clients,
        corrupt=corrupt,
        dropped=dropped,
        neighbours=neighbours,
        threshold=threshold,
        quorum=max(quorum_of(clients, corrupt), min_contributors),
    )


def split_tail(numbers: Numbers) -> Fraction:
    """Return the bound on the chance that a random ring betrays a client or splits the survivors; 0 or 1 without a ring."""
    n, k, least = numbers.clients, numbers.neighbours, 2 * numbers.threshold - numbers.neighbours
    if numbers.complete:
        return Fraction(numbers.corrupt >= least)
    return _ring_events(n) * hypergeometric_tail(n, numbers.corrupt, k, least)


def availability_tail(numbers: Numbers) -> Fraction:
    """Return the bound on the chance that D random drop-outs leave some client fewer than t living neighbours."""
    n, k = numbers.clients, numbers.neighbours
    return n * hypergeometric_tail(n - 1, numbers.dropped, k, k - numbers.threshold + 1)


def verify_numbers(numbers: Numbers, *, corrupt_fraction: float, min_contributors: int) -> None:
    """Check what a coordinator shows: raises :class:`PlanError` naming the weak number; stronger ones than planned pass.

    ``clients`` must be the length of the roster that the caller holds. Drop-outs are not looked at: they endanger nobody.
    """
    n, k, t, q = numbers.clients, numbers.neighbours, numbers.threshold, numbers.quorum
    corrupt = corrupt_count(n, corrupt_fraction)
    _require(n >= 2, f"{n} clients: a round needs 2 or more")
    _require(
        numbers.corrupt == corrupt, f"corrupt is {numbers.corrupt}: {corrupt_fraction} of {n} clients is {corrupt}"
    )
    _require(1 <= k <= n - 1, f"{k} neighbours of {n} clients: choose 1 to {n - 1}")
    _require(numbers.complete or k % 2 == 0, f"{k} neighbours of {n} clients: on a ring the number must be even")
    _require(1 <= t <= k, f"threshold {t} of {k} neighbours: choose 1 to {k}")
    _require(q <= n, f"quorum {q} is more than the {n} clients")
    _require(2 * q > n + corrupt, f"quorum {q} of {n} clients with {corrupt} corrupt: at least {quorum_of(n, corrupt)}")
    _require(q >= min_contributors, f"quorum {q} is below the {min_contributors} contributors that a sum must have")
    _require_honest(n, corrupt_fraction, min_contributors)
    _require_safe(numbers)


def verify_feasible(
    *, max_clients: int, min_contributors: int, corrupt_fraction: float, dropout_fraction: float
) -> None:
    """Check that every roster from ``min_contributors`` to ``max_clients`` has numbers, and two honest contributors.

    The complete graph is what :func:`plan_numbers` falls back to, so it decides. Raises :class:`PlanError` naming the
    number to change, and to what.
    """
    _exact(corrupt_fraction, "corrupt_fraction")
    _exact(dropout_fraction, "dropout_fraction")
    _require(
        FEWEST_HONEST <= min_contributors <= max_clients,
        f"min_contributors {min_contributors}: choose {FEWEST_HONEST} to {max_clients} (max_clients)",
    )
    _require_honest(max_clients, corrupt_fraction, min_contributors)
    _require_bearable(range(min_contributors, max_clients + 1), corrupt_fraction, dropout_fraction, min_contributors)


def _require(holds: bool, message: str) -> None:  # noqa: FBT001 - reads as an assertion
    if not holds:
        raise PlanError(message)


@lru_cache(maxsize=64)
def _exact(fraction: float, name: str) -> Fraction:
    value = float(fraction)
    _require(0 <= value < 0.5, f"{name} is {value}: choose 0 or more, and less than 0.5")
    return Fraction(repr(value))


def _complete_threshold(clients: int, corrupt: int) -> int:
    """The smallest t with 2t > k + C for k = n - 1."""
    return (clients - 1 + corrupt) // 2 + 1


def _ring_events(clients: int) -> int:
    """In how many sets of k positions the corrupt must be few: neighbourhoods, and pairs of disjoint windows."""
    return clients + clients * (clients - 1) // 2


def _fewest_neighbours(clients: int, corrupt: int, dropped: int) -> tuple[int, int]:
    """The smallest even k of a ring, with its t; the complete graph where a ring cannot do it or need not."""
    if clients > COMPLETE_UP_TO:
        rare_split = Fraction(1, _ring_events(clients) << SPLIT_BITS)
        rare_outage = Fraction(1, clients << AVAILABILITY_BITS)
        for k in range(2, clients - 1, 2):
            t = (k + smallest_count(clients, corrupt, k, rare_split) + 1) // 2
            # The count is 1 or more, so t <= k holds as well.
            if smallest_count(clients - 1, dropped, k, rare_outage) <= k - t + 1:
                return k, t
    return clients - 1, _complete_threshold(clients, corrupt)


def _require_safe(numbers: Numbers) -> None:
    k, t, corrupt = numbers.neighbours, numbers.threshold, numbers.corrupt
    if numbers.complete:
        least = _complete_threshold(numbers.clients, corrupt)
        _require(2 * t > k + corrupt, f"threshold {t} of {k} neighbours with {corrupt} corrupt: at least {least}")
        return
    tail = split_tail(numbers)
    message = (
        f"threshold {t} of {k} neighbours leaves a chance of 2^{log2_of(tail):.1f} that a ring of {numbers.clients} clients with "
        f"{corrupt} corrupt betrays one, 2^-{SPLIT_BITS} is allowed: raise threshold or neighbours"
    )
    _require(tail * (1 << SPLIT_BITS) <= 1, message)


def _require_honest(clients: int, corrupt_fraction: float, min_contributors: int) -> None:
    corrupt = corrupt_count(clients, corrupt_fraction)
    _require(
        min_contributors - corrupt >= FEWEST_HONEST,
        f"min_contributors {min_contributors} with {corrupt} corrupt of {clients} clients leaves {min_contributors - corrupt} honest: "
        f"raise min_contributors to {corrupt + FEWEST_HONEST}, or lower corrupt_fraction or the number of clients",
    )


class _Size(NamedTuple):
    """What one roster size asks of the complete graph, and what that bears."""

    clients: int
    corrupt: int
    dropped: int
    bearable: int


def _require_bearable(
    sizes: Iterable[int], corrupt_fraction: float, dropout_fraction: float, min_contributors: int
) -> None:
    """Raise :class:`PlanError` unless the complete graph bears the drop-outs of every one of these sizes."""
    every = [_size(clients, corrupt_fraction, dropout_fraction, min_contributors) for clients in sizes]
    failing = [size for size in every if size.dropped > size.bearable]
    if failing:
        first = failing[0]
        message = (
            f"with {first.clients} clients, {first.corrupt} corrupt and {first.dropped} drop-outs no threshold is both safe and "
            f"reachable: {', or '.join(_ways_out(every, failing, min_contributors))}"
        )
        raise PlanError(message)


def _size(clients: int, corrupt_fraction: float, dropout_fraction: float, min_contributors: int) -> _Size:
    _require(
        2 <= clients >= min_contributors,
        f"{clients} clients are fewer than min_contributors {min_contributors} or than 2",
    )
    corrupt = corrupt_count(clients, corrupt_fraction)
    # t living neighbours, and n - D >= q: the first implies the second, as quorum_of is at most t + 1, and D leaves min_contributors.
    bearable = clients - 1 - _complete_threshold(clients, corrupt)
    return _Size(clients, corrupt, dropped_count(clients, dropout_fraction, min_contributors), bearable)


def _ways_out(every: list[_Size], failing: list[_Size], min_contributors: int) -> list[str]:
    """The largest fractions with which every size holds, and the fewest contributors."""
    ways = []
    dropout = min(Fraction(one.bearable, one.clients) for one in every if one.clients - min_contributors > one.bearable)
    corrupt = min(Fraction(one.clients - 2 - 2 * one.dropped, one.clients) for one in every)
    if dropout >= 0:
        ways.append(f"lower dropout_fraction to {_floored(dropout)}")
    if corrupt >= 0:
        ways.append(f"lower corrupt_fraction to {_floored(corrupt)}")
    least = max(one.clients - one.bearable for one in failing)
    if least <= every[-1].clients:
        ways.append(f"raise min_contributors to {least}")
    return ways or ["lower both dropout_fraction and corrupt_fraction"]


def _floored(fraction: Fraction) -> float:
    return math.floor(fraction * 1000) / 1000
