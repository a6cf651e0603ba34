"""How a whole round grows with the number of clients and with the length of the vector: seconds by phase, bytes, peak memory.

Masking rounds beside Flower's, as in `bench_round`; `ckks` is ours alone. Clients share two cores with the coordinator and the key
holders, so that the seconds of n clients are the work of all of them; a deployment has a machine for each.
"""

from benchmarks.bench_masking import both
from benchmarks.bench_round import rounds
from benchmarks.notebook import Notebook
from benchmarks.options import options
from benchmarks.records import Case

FEW = 5
LONG = 3_000_000
VALUES = 100_000
CLIENTS = {"masking": (5, 10, 20, 35, 50), "ckks": (3, 5, 8, 16)}
PEERS_SHARES = {5: (5, 3), 10: (10, 6), 20: (15, 9), 35: (19, 11), 50: (21, 12)}
"""Shares and threshold of the peer by clients: the same as in `bench_masking` where that has them."""
LENGTHS = (10_000, 100_000, 1_000_000, LONG)
QUICK: tuple[Case, ...] = ({"protocol": "masking", "clients": FEW, "values": 2000},)


def cases() -> tuple[Case, ...]:
    """By clients, and by length; what belongs to both, once."""
    by_clients = [(name, clients, VALUES) for name, numbers in CLIENTS.items() for clients in numbers]
    by_length = [(name, FEW, values) for name in CLIENTS for values in LENGTHS]
    every = dict.fromkeys((*by_clients, *by_length))
    return tuple(
        {"protocol": name, "clients": clients, "values": values, **(shares(clients) if name == "masking" else {})}
        for name, clients, values in every
    )


def shares(clients: int) -> Case:
    """What the peer has to be told."""
    number, threshold = PEERS_SHARES[clients]
    return {"shares": number, "threshold": threshold}


def main() -> None:
    asked = options(__doc__)
    notebook = Notebook("growth", "A whole round by the number of clients and by the length of the vector", asked)
    ours, flower = both(notebook, asked, "round")
    for case in QUICK if asked.quick else cases():
        entered = (*ours, *(flower if case["protocol"] == "masking" else ()))
        # The longest rounds need no warming up.
        rounds(notebook, asked, case, entered, warmups=0 if case["values"] >= LONG else 1)
    notebook.write()


if __name__ == "__main__":
    main()
