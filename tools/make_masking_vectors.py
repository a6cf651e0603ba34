"""Write the known answers of tests/vectors/masking, or check that the checked-in ones are up to date.

Run `python tools/make_masking_vectors.py` from the root after a change that is meant to alter what
goes over the wire; a test runs it with ``--check``. Every input is a hash of its own name, so each
run makes the same bytes.
"""

import argparse
import json
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from secagg.ids import ClientId, Digest
from secagg.masking import agreement, graph, packing, sealing, shamir
from secagg.masking.secrets_of_client import ClientSecrets
from secagg.masking.stream import MaskStream

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "vectors" / "masking"
ALICE, BOB = ClientId("alice"), ClientId("bob")
PRIME_LIMB = "ffffff7f"

Case = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns 1 when ``--check`` finds a difference, and names each file that differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the vectors are out of date")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the vectors are")
    options = parser.parse_args(arguments)
    wanted = {name: json.dumps(make(), indent=1) + "\n" for name, make in FILES.items()}
    if options.check:
        return check(options.folder, wanted)
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, text in wanted.items():
        (options.folder / name).write_text(text)
    return 0


def check(folder: Path, wanted: dict[str, str]) -> int:
    """Compare what is in `folder` with what this tool makes. Returns 1 when any file differs."""
    found = {path.name: path.read_text() for path in folder.glob("*.json")}
    stale = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    for name in stale:
        print(f"{folder / name} is not what tools/make_masking_vectors.py makes", file=sys.stderr)
    return 1 if stale else 0


def shares() -> Case:
    """Dealings, and shares that open to nothing."""
    whole = "00" * 36
    return {
        "dealings": [_dealing(1, [7]), _dealing(2, [1, 2, 3]), _dealing(4, [5, 1, 9, 2147483646, 40000, 3])],
        "errors": [
            _error("a share of 35 bytes", "decode_share", "MessageError", data="00" * 35),
            _error("a share of 37 bytes", "decode_share", "MessageError", data="00" * 37),
            _error("a first limb of p", "decode_share", "MessageError", data=PRIME_LIMB + "00" * 32),
            _error("a last limb of 2^32 - 1", "decode_share", "MessageError", data="00" * 32 + "ffffffff"),
            _error("a repeated point", "recover", "MessageError", points=[3, 3], shares=[whole, whole]),
            _error("point zero", "recover", "MessageError", points=[0, 1], shares=[whole, whole]),
            _error("point p", "recover", "MessageError", points=[2147483647], shares=[whole]),
            _error("no share at all", "recover", "MessageError", points=[], shares=[]),
            _error("a share too few", "recover", "MessageError", points=[1, 2], shares=[whole]),
            _error("a first limb of 2^30", "recover", "MessageError", points=[1], shares=["00000040" + "00" * 32]),
            _error("a last limb of 2^16", "recover", "MessageError", points=[1], shares=["00" * 32 + "00000100"]),
            _error("a threshold of zero", "deal", "UsageError", threshold=0, points=[1, 2]),
            _error("a threshold above the points", "deal", "UsageError", threshold=3, points=[1, 2]),
            _error("dealt to a repeated point", "deal", "UsageError", threshold=1, points=[1, 1]),
            _error("dealt to point zero", "deal", "UsageError", threshold=1, points=[0, 1]),
        ],
    }


def graphs() -> Case:
    """Ring orders, neighbours, and numbers that no graph has."""
    roster = _digest("roster")
    return {
        "roster_digest": roster.hex(),
        "orders": [{"clients": count, "order": graph.ring_order(roster, count).tolist()} for count in (1, 2, 13)],
        "graphs": [
            {"clients": clients, "degree": degree, "neighbours": graph.neighbours(roster, clients, degree).tolist()}
            for clients, degree in ((2, 1), (4, 3), (5, 2), (13, 4))
        ],
        "errors": [
            _error(f"degree {degree} of {clients}", "neighbours", "UsageError", clients=clients, degree=degree)
            for clients, degree in ((1, 0), (0, 0), (5, 0), (5, 5), (5, -2), (6, 3), (100, 100))
        ],
    }


def masks() -> Case:
    """What a client derives, what two clients agree on, and the words of the masks."""
    plan, roster = _digest("plan"), _digest("roster")
    alice, bob = (ClientSecrets.of(_digest(f"seed of {one}"), plan_digest=plan, client=one) for one in (ALICE, BOB))
    pair = agreement.pair_mask_key(
        alice.mask_private, bob.mask_public, plan_digest=plan, roster_digest=roster, one=ALICE, other=BOB
    )
    own = agreement.self_mask_key(alice.self_seed, plan_digest=plan, roster_digest=roster, client=ALICE)
    return {
        "plan_digest": plan.hex(),
        "roster_digest": roster.hex(),
        "clients": [_client(ALICE, alice), _client(BOB, bob)],
        "pair_mask_key": pair.hex(),
        "self_mask_key": own.hex(),
        "streams": [_stream(pair, start) for start in (0, 3, 65536, 2**33 + 1)],
        "errors": [
            *(_error(f"low order {u}", "agree", "MessageError", peer=u) for u in ("00" * 32, "01" + "00" * 31)),
            _error("a public key of 31 bytes", "agree", "MessageError", peer="09" * 31),
            _error("a public key of 33 bytes", "agree", "MessageError", peer="09" * 33),
            _error("a seed of 16 bytes", "self_mask_key", "UsageError", seed="07" * 16),
            _error("a commitment to 33 bytes", "seed_commitment", "UsageError", seed="07" * 33),
            _error("a master seed of 31 bytes", "client_secrets", "UsageError", seed="07" * 31),
            _error("a stream key of 128 bits", "stream", "UsageError", key="07" * 16, start=0),
            _error("a word before the first", "stream", "UsageError", key="07" * 32, start=-1),
        ],
    }


def sealed_pairs() -> Case:
    """One sealed pair, and everything that must not open."""
    plan, roster = _digest("plan"), _digest("roster")
    alice, bob = _digest("share key of alice"), _digest("share key of bob")
    halves = [np.frombuffer(_digest(f"half {n}") + b"\0\0\0\0", dtype="<u4") & np.uint32(0x3FFFFFFF) for n in (1, 2)]
    pair = sealing.encode_pair(*halves)
    context = {"plan_digest": plan, "roster_digest": roster, "sender": ALICE, "receiver": BOB}
    box = sealing.seal(alice, agreement.public_key(bob), pair, **context)  # type: ignore[arg-type]
    return {
        "plan_digest": plan.hex(),
        "roster_digest": roster.hex(),
        "sender": {"name": ALICE, "private": alice.hex(), "public": agreement.public_key(alice).hex()},
        "receiver": {"name": BOB, "private": bob.hex(), "public": agreement.public_key(bob).hex()},
        "pair": pair.hex(),
        "sealed": box.hex(),
        "errors": [
            _error("one bit altered", "open", "MessageError", sealed=_flipped(box, 0)),
            _error("one bit of the tag altered", "open", "MessageError", sealed=_flipped(box, -1)),
            _error("one byte missing", "open", "MessageError", sealed=box[:-1].hex()),
            _error("nothing", "open", "MessageError", sealed=""),
            _error("another plan", "open", "MessageError", plan_digest=_digest("another plan").hex()),
            _error("another roster", "open", "MessageError", roster_digest=_digest("another roster").hex()),
            _error("another sender", "open", "MessageError", sender="carol"),
            _error("another receiver", "open", "MessageError", receiver="carol"),
            _error("the other direction", "open", "MessageError", sender=BOB, receiver=ALICE),
            _error("a pair of 71 bytes", "decode_pair", "MessageError", data="00" * 71),
            _error("a pair of 73 bytes", "decode_pair", "MessageError", data="00" * 73),
            _error("a second share with a limb of p", "decode_pair", "MessageError", data="00" * 68 + PRIME_LIMB),
        ],
    }


def packings() -> Case:
    """Eleven values at every width, and bytes that are no packing."""
    return {
        "packings": [_packing(bits) for bits in range(1, 33)],
        "errors": [
            _error("a byte too many", "unpack", "MessageError", data="000000", bits=7, count=2),
            _error("a byte missing", "unpack", "MessageError", data="00", bits=7, count=2),
            _error("padding that is not zero", "unpack", "MessageError", data="0040", bits=7, count=2),
            _error("padding after 20 bits", "unpack", "MessageError", data="000010", bits=20, count=1),
            _error("something for no value", "unpack", "MessageError", data="00", bits=9, count=0),
            _error("read at zero bits", "unpack", "UsageError", data="", bits=0, count=1),
            _error("read at 33 bits", "unpack", "UsageError", data="00" * 5, bits=33, count=1),
            _error("fewer than no values", "unpack", "UsageError", data="", bits=8, count=-1),
            _error("2^7 at 7 bits", "pack", "UsageError", values=[1, 128], bits=7),
            _error("2^8 at 8 bits", "pack", "UsageError", values=[256], bits=8),
            _error("written at zero bits", "pack", "UsageError", values=[0], bits=0),
        ],
    }


FILES: dict[str, Callable[[], Case]] = {
    "shares.json": shares,
    "graph.json": graphs,
    "masks.json": masks,
    "sealing.json": sealed_pairs,
    "packing.json": packings,
}


def _error(name: str, call: str, error: str, **arguments: object) -> Case:
    return {"name": name, "call": call, "arguments": arguments, "error": error}


def _digest(name: str) -> Digest:
    return Digest(sha256(name.encode()).digest())


def _dealing(threshold: int, points: list[int]) -> Case:
    secrets = [_digest("first secret"), b"\xff" * 32, bytes(32)]
    key = _digest(f"dealing {threshold}")
    dealt = shamir.deal(secrets, threshold=threshold, points=np.array(points, dtype=np.uint32), stream=MaskStream(key))
    return {
        "threshold": threshold,
        "points": points,
        "key": key.hex(),
        "secrets": [secret.hex() for secret in secrets],
        "shares": [[shamir.encode_share(share).hex() for share in row] for row in dealt],
    }


def _client(name: ClientId, secrets: ClientSecrets) -> Case:
    return {
        "name": name,
        "master_seed": _digest(f"seed of {name}").hex(),
        "mask_private": secrets.mask_private.hex(),
        "mask_public": secrets.mask_public.hex(),
        "share_private": secrets.share_private.hex(),
        "share_public": secrets.share_public.hex(),
        "self_seed": secrets.self_seed.hex(),
        "quantising_key": secrets.quantising_key.hex(),
        "dealing_key": secrets.dealing_key.hex(),
        "commitment": secrets.commitment.hex(),
    }


def _stream(key: bytes, start: int) -> Case:
    return {"key": key.hex(), "start": start, "words": MaskStream(key).words(start, 5).tolist()}


def _flipped(box: bytes, position: int) -> str:
    altered = bytearray(box)
    altered[position] ^= 1
    return altered.hex()


def _packing(bits: int) -> Case:
    values = MaskStream(_digest("values")).words(0, 11) & np.uint32((1 << bits) - 1)
    return {"bits": bits, "values": values.tolist(), "packed": packing.pack(values, bits).hex()}


if __name__ == "__main__":
    sys.exit(main())
