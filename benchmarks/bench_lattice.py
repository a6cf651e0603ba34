"""What one core does with the lattice layer: NTT, products, sums, encryption, decoding.

Run `make bench`. Medians; quote ratios within one run.
"""

import time
from collections.abc import Callable

import numpy as np

from he.accumulate import ResidueAccumulator
from he.decode import coefficients, slots
from he.encrypt import Encryptor
from he.parameters import preset
from he.ring import ring_for
from tests.he_material import draw_key, random_residues

VALUES = 1_000_000
REPEATS = 9


def median_seconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return sorted(times)[REPEATS // 2]


def main() -> None:
    parameters = preset("ckks-4096", values=VALUES, max_clients=100, holders=5, threshold=3)
    ring = ring_for(parameters)
    generator = np.random.default_rng(0)
    half = random_residues(parameters.data_primes, parameters.degree, generator, parameters.chunks)
    some = half[:60]
    assert np.array_equal(ring.inverse(ring.forward(some)), some)
    polynomials = some.shape[0] * some.shape[1]
    for name, work in (
        ("NTT", lambda: ring.forward(some)),
        ("inverse NTT", lambda: ring.inverse(some)),
        ("product", lambda: ring.multiply(some, some)),
    ):
        print(f"{name:28} {median_seconds(work) / polynomials * 1e6:8.1f} us per polynomial and prime")

    total = ResidueAccumulator(parameters)
    raw = half.copy()
    gigabytes = half.nbytes / 1e9
    for name, work in (
        ("verify and add, whole half", lambda: total.add(half)),
        ("numpy's own addition", lambda: np.add(raw, half, out=raw)),
    ):
        print(f"{name:28} {gigabytes / median_seconds(work):8.1f} GB/s")

    opened = coefficients(parameters, half)
    print(f"{'CRT of one vector':28} {median_seconds(lambda: coefficients(parameters, half)):8.3f} s")
    print(f"{'slots of one vector':28} {median_seconds(lambda: slots(parameters, opened)):8.3f} s")
    encryptor = Encryptor(draw_key(parameters, seed=0)[0])
    vector = generator.uniform(-1, 1, VALUES)
    start = time.perf_counter()
    for _ in encryptor.encrypt_chunks(vector):
        pass
    print(f"{'encrypt one vector':28} {time.perf_counter() - start:8.3f} s")


if __name__ == "__main__":
    main()
