"""What one core does with the masking layer: mask streams, packing, a client's whole work and the coordinator's, the planner.

Run `make bench`. Medians; quote ratios within one run, where what is compared took turns. The bare cost of keystreams is AES-256-CTR
of as many bytes into a buffer of 256 KiB, nothing added up: no masking of as many streams can take less.
"""

import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from coordinator.rounds.unmasking import take_off
from coordinator.store.blobs import DirectoryBlobStore
from coordinator.streams import Spool, UploadKey
from coordinator.vectors import VectorSpool
from secagg.ids import ClientId, Digest, JobId, RoundNumber
from secagg.masking.agreement import pair_mask_key, self_mask_key
from secagg.masking.graph import neighbours, ring_order
from secagg.masking.masks import MaskedSum, Masks, adds, masked_pieces, pieces
from secagg.masking.packing import pack, unpack
from secagg.masking.parameters import MaskingParameters
from secagg.masking.planner import Numbers, plan_numbers, verify_numbers
from secagg.masking.quantise import Floats, Words, dequantise_sum, quantise
from secagg.masking.sealing import encode_pair, open_sealed, seal
from secagg.masking.secrets_of_client import ClientSecrets
from secagg.masking.shamir import deal, encode_share
from secagg.masking.stream import BUFFER_BYTES, WORD_BYTES, MaskStream
from secagg.masking.unmasking import UnmaskedRound, masks_in_sum, recover_secrets
from secagg.messages.masking import MaskingJoin

VALUES = 1_000_000
PARAMETERS = MaskingParameters(values=VALUES, max_clients=100, clip=1.0)
on_grid = partial(quantise, clip=PARAMETERS.clip, value_bits=PARAMETERS.value_bits)
BITS = PARAMETERS.sum_bits
PLAN, ROSTER = Digest(sha256(b"plan").digest()), Digest(sha256(b"roster").digest())
CONTEXT = {"plan_digest": PLAN, "roster_digest": ROSTER}
REPEATS, FEW_REPEATS = 9, 5


def taking_turns(*works: Callable[[], object], repeats: int = REPEATS) -> list[float]:
    """Median seconds of each; they run in turns, so that what else the machine does hits all alike."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for work, found in zip(works, times, strict=True):
            start = time.perf_counter()
            work()
            found.append(time.perf_counter() - start)
    return [median(found) for found in times]


def line(name: str, figure: float, unit: str, rest: str = "") -> None:
    print(f"{name:42} {figure:9.2f} {unit:5} {rest}".rstrip(), flush=True)


def bare_keystreams(count: int) -> None:
    """Do what AES asks for `count` mask streams of one vector."""
    zeros, piece = bytes(BUFFER_BYTES), bytearray(BUFFER_BYTES)
    for key in range(count):
        encryptor = Cipher(algorithms.AES(key.to_bytes(32, "big")), modes.CTR(bytes(16))).encryptor()
        for begin in range(0, VALUES * WORD_BYTES, BUFFER_BYTES):
            size = min(BUFFER_BYTES, VALUES * WORD_BYTES - begin)
            encryptor.update_into(memoryview(zeros)[:size], piece)


def streams_and_packing() -> None:
    stream, target = MaskStream(bytes(32)), np.zeros(VALUES, dtype=np.uint32)
    words, gigabytes = stream.words(0, VALUES), VALUES * WORD_BYTES / 1e9
    stream.add_to(target, 0)
    assert np.array_equal(target, words)
    bare, addition, added = taking_turns(
        lambda: bare_keystreams(1), lambda: np.add(target, words, out=target), lambda: stream.add_to(target, 0)
    )
    line("bare AES-256-CTR", gigabytes / bare, "GB/s")
    line("numpy's own addition", gigabytes / addition, "GB/s")
    line("keystream made and added", gigabytes / added, "GB/s", f"{added / bare:.2f} times the bare AES's time")

    vector = vector_of(0)
    values = on_grid(vector, noise=stream)
    packed = pack(values, BITS)
    back = dequantise_sum(values, contributors=1, clip=PARAMETERS.clip, value_bits=PARAMETERS.value_bits)
    assert np.abs(back - vector).max() < 1.001 * PARAMETERS.step
    assert np.array_equal(unpack(packed, BITS, VALUES), values)
    quantising, noise, packing, unpacking = taking_turns(
        lambda: on_grid(vector, noise=stream),
        lambda: stream.words(0, VALUES),
        lambda: pack(values, BITS),
        lambda: unpack(packed, BITS, VALUES),
    )
    line("quantise 1e6 values", quantising * 1e3, "ms", f"{noise * 1e3:.2f} ms of it for the noise")
    line(f"pack 1e6 values to {BITS} bits", packing * 1e3, "ms")
    line(f"unpack 1e6 values of {BITS} bits", unpacking * 1e3, "ms")


@lru_cache(maxsize=1)
def vector_of(place: int) -> Floats:
    return np.random.default_rng(place).uniform(-1, 1, VALUES)


def threshold(degree: int) -> int:
    return degree * 5 // 8


@dataclass(frozen=True, kw_only=True)
class People:
    """Clients with real keys, everyone joined to `degree` others."""

    clients: int
    degree: int

    @cached_property
    def names(self) -> list[ClientId]:
        return [ClientId(f"client-{place:03}") for place in range(self.clients)]

    @cached_property
    def secrets(self) -> list[ClientSecrets]:
        return [ClientSecrets.of(sha256(one.encode()).digest(), plan_digest=PLAN, client=one) for one in self.names]

    @cached_property
    def joins(self) -> list[MaskingJoin]:
        return [
            MaskingJoin(
                plan_digest=PLAN,
                client=name,
                mask_key=one.mask_public,
                share_key=one.share_public,
                seed_commitment=one.commitment,
            )
            for name, one in zip(self.names, self.secrets, strict=True)
        ]

    @cached_property
    def graph(self) -> list[list[int]]:
        return list(map(list, neighbours(ROSTER, self.clients, self.degree).tolist()))

    def survivors(self, dropped: int) -> list[int]:
        """Everyone but some at equal distances on the ring, so that each keeps nearly as many neighbours as any other."""
        gone = ring_order(ROSTER, self.clients)[np.arange(dropped) * self.clients // max(dropped, 1)]
        return sorted(set(range(self.clients)) - set(gone.tolist()))

    def dealt(self, own: int, others: Sequence[int]) -> Words:
        """Shares of a client's self-mask seed and of its mask key, uint32 (2, others, 9)."""
        one, points = self.secrets[own], np.array(others, dtype=np.uint32) + np.uint32(1)
        secrets, stream = [one.self_seed, one.mask_private], MaskStream(one.dealing_key)
        return deal(secrets, threshold=threshold(len(others)), points=points, stream=stream)

    def sealed(self, own: int, others: Sequence[int]) -> list[bytes]:
        private, names = self.secrets[own].share_private, self.names
        return [
            seal(private, self.joins[other].share_key, pair, **CONTEXT, sender=names[own], receiver=names[other])
            for other, pair in zip(others, map(encode_pair, *self.dealt(own, others)), strict=True)
        ]

    def opened(self, own: int, others: Sequence[int], sealed: Sequence[bytes]) -> list[bytes]:
        """Open a client's shares at its neighbours: as much work as one client has with the shares of all its neighbours."""
        public, names, private = self.joins[own].share_key, self.names, [one.share_private for one in self.secrets]
        return [
            open_sealed(private[other], public, pair, **CONTEXT, sender=names[own], receiver=names[other])
            for other, pair in zip(others, sealed, strict=True)
        ]

    def masks(self, own: int, others: Sequence[int]) -> Masks:
        secrets, name = self.secrets[own], self.names[own]
        added, subtracted = [self_mask_key(secrets.self_seed, **CONTEXT, client=name)], list[bytes]()
        for other in others:
            public = self.joins[other].mask_key
            key = pair_mask_key(secrets.mask_private, public, **CONTEXT, one=name, other=self.names[other])
            (added if adds(own, other) else subtracted).append(key)
        return Masks(added=tuple(added), subtracted=tuple(subtracted))

    def masked(self, own: int, masks: Masks) -> Iterator[bytes]:
        return masked_pieces(vector_of(own), PARAMETERS, masks, self.secrets[own].quantising_key)

    def quantised(self, own: int) -> Words:
        return on_grid(vector_of(own), noise=MaskStream(self.secrets[own].quantising_key))

    def unmasked_round(self, survivors: list[int]) -> UnmaskedRound:
        """The round as the coordinator has it once every survivor has revealed its shares."""
        dealt = [self.dealt(own, others) for own, others in enumerate(self.graph)]

        def revealed(holder: int, owner: int) -> bytes:
            return encode_share(dealt[owner][int(owner not in survivors), self.graph[owner].index(holder)])

        return UnmaskedRound(
            **CONTEXT,
            joins=self.joins,
            graph=np.array(self.graph),
            threshold=threshold(self.degree),
            sharers=frozenset(range(self.clients)),
            survivors=frozenset(survivors),
            revealed={holder: [revealed(holder, owner) for owner in self.graph[holder]] for holder in survivors},
        )


def client(degree: int) -> None:
    """All that one of 100 clients computes over keys, shares and vector, with `degree` neighbours."""
    people, own = People(clients=100, degree=99), 50
    others = [(own + step) % 100 for step in range(1, degree + 1)]
    sealed, masks = people.sealed(own, others), people.masks(own, others)
    assert people.opened(own, others, sealed) == list(map(encode_pair, *people.dealt(own, others)))
    packed = b"".join(people.masked(own, masks))
    _check_masked(packed, masks, people.quantised(own))
    dealing, opening, agreeing, masking, bare = taking_turns(
        lambda: people.sealed(own, others),
        lambda: people.opened(own, others, sealed),
        lambda: people.masks(own, others),
        lambda: b"".join(people.masked(own, masks)),
        lambda: bare_keystreams(degree + 2),
    )
    print(f"client of 100 with {degree} neighbours, {VALUES:,} values")
    for name, seconds in (("deal and seal shares", dealing), ("open shares", opening), ("agree on masks", agreeing)):
        line(f"  {name}", seconds * 1e3, "ms")
    line("  quantise, mask and pack the vector", masking * 1e3, "ms", f"{len(packed) / VALUES} bytes per value")
    line(f"  its {degree + 2} bare keystreams", bare * 1e3, "ms", f"masking takes {masking / bare:.2f} times that")
    line("  all together", (dealing + opening + agreeing + masking) * 1e3, "ms", "without the bare keystreams")


def _check_masked(packed: bytes, masks: Masks, quantised: Words) -> None:
    values = unpack(packed, BITS, VALUES)
    assert np.count_nonzero(values == quantised) < 100
    masks.inverse.put_on(values, 0)
    assert np.array_equal(values & np.uint32((1 << BITS) - 1), quantised)


def upload_key(name: ClientId) -> UploadKey:
    return UploadKey(job=JobId("bench"), round=RoundNumber(1), client=name)


def write_vectors(people: People, directory: Path, drops: Sequence[int]) -> None:
    """Write what clients upload, and for every number of drop-outs the sum that lies below the masks."""
    blobs, survivors = DirectoryBlobStore(directory), [people.survivors(dropped) for dropped in drops]
    sums = np.zeros((len(drops), VALUES), dtype=np.uint32)
    for own, name in enumerate(people.names):
        masks = people.masks(own, people.graph[own])
        blobs.write(upload_key(name).blob("vector"), people.masked(own, masks))
        sums[[own in those for those in survivors]] += people.quantised(own)
    for dropped, total in zip(drops, sums, strict=True):
        np.save(directory / f"{dropped}.npy", total)


def unmask(people: People, directory: Path, dropped: int) -> None:
    """From vectors on disk and revealed shares to the sum, in one thread, as the coordinator does it."""
    blobs, bounds, survivors = DirectoryBlobStore(directory), tuple(pieces(PARAMETERS)), people.survivors(dropped)
    vectors, keys = VectorSpool(blobs, Spool(blobs, max_bytes=1)), [upload_key(people.names[one]) for one in survivors]
    round = people.unmasked_round(survivors)
    masks, total, before = masks_in_sum(round, recover_secrets(round).secrets), MaskedSum(PARAMETERS), peak_megabytes()

    def add() -> None:
        nonlocal total
        del total  # Two sums at a time would show in the peak, and a round has one.
        total = MaskedSum(PARAMETERS)
        vectors.add_up(total, PARAMETERS, keys, bounds)

    adding, recovering, unmasking, bare = taking_turns(
        add,
        lambda: masks_in_sum(round, recover_secrets(round).secrets),
        lambda: take_off(total, masks, bounds),
        lambda: bare_keystreams(masks.count),
        repeats=FEW_REPEATS,
    )
    peak, count = peak_megabytes(), len(survivors)
    assert np.array_equal(total.quantised(), np.load(directory / f"{dropped}.npy"))
    print(f"coordinator, {people.clients} clients with {people.degree} neighbours, {dropped} dropped")
    line(f"  add {count} vectors", adding, "s", f"{adding / count * 1e3:.2f} ms each")
    line("  recover secrets, agree on masks", recovering, "s")
    line(f"  take {masks.count} masks off", unmasking, "s", f"{unmasking / bare:.2f} times the bare keystreams")
    line("  all together", adding + recovering + unmasking, "s")
    line("  peak memory", peak, "MB", f"{before:.2f} of it before the first vector")


def peak_megabytes() -> float:
    # Linux counts in KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def coordinator() -> None:
    """Every case in a process of its own, for its peak memory."""
    processes = ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1)
    with tempfile.TemporaryDirectory() as directory, processes:
        for clients, drops in ((20, (6,)), (100, (0, 5, 30))):
            people, place = People(clients=clients, degree=min(32, clients - 1)), Path(directory, str(clients))
            processes.submit(write_vectors, people, place, drops).result()
            for dropped in drops:
                processes.submit(unmask, people, place, dropped).result()


def planned() -> Numbers:
    plan_numbers.cache_clear()
    return plan_numbers(1000, corrupt_fraction=0.05, dropout_fraction=0.1, min_contributors=500)


def planner() -> None:
    numbers = planned()
    verify_numbers(numbers, corrupt_fraction=0.05, min_contributors=500)
    (planning,) = taking_turns(planned)
    line("plan numbers for 1000 clients", planning * 1e3, "ms", f"k {numbers.neighbours}, t {numbers.threshold}")


def main() -> None:
    # First, while this process is small: Linux counts what a parent held into its child's peak.
    coordinator()
    for degree in (31, 99):
        client(degree)
    streams_and_packing()
    planner()


if __name__ == "__main__":
    main()
