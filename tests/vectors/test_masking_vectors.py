"""Known answers of the `masking` protocol: the standards' own, and ours (tools/make_masking_vectors.py)."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from secagg.errors import MessageError, UsageError
from secagg.ids import ClientId, Digest
from secagg.masking import agreement, graph, packing, sealing, shamir
from secagg.masking.secrets_of_client import ClientSecrets
from secagg.masking.stream import MaskStream

FOLDER = Path(__file__).parent / "masking"
TOOL = Path(__file__).parents[2] / "tools" / "make_masking_vectors.py"
VECTORS: dict[str, Any] = {path.stem: json.loads(path.read_text()) for path in FOLDER.glob("*.json")}
ERRORS = {"MessageError": MessageError, "UsageError": UsageError}
ERROR_CASES = [(stem, case) for stem, vectors in sorted(VECTORS.items()) for case in vectors["errors"]]
ALICE = ClientId("alice")
KEY = bytes(range(32))

# RFC 7748: scalar, u and result of section 5.2, then both halves of section 6.1
X25519 = [
    (
        "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
        "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
        "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
    ),
    (
        "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
        "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
        "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
    ),
    (
        "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
        "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
        "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
    ),
    (
        "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
        "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
    ),
]

# RFC 5869, appendix A.1 and A.3: salt, info, 42 bytes of key
HKDF = [
    (
        "000102030405060708090a0b0c",
        "f0f1f2f3f4f5f6f7f8f9",
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (None, "", "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"),
]


@pytest.mark.parametrize(("private", "peer", "secret"), X25519)
def test_x25519_of_rfc_7748(private: str, peer: str, secret: str) -> None:
    assert agreement.agree(bytes.fromhex(private), bytes.fromhex(peer)).hex() == secret


@pytest.mark.parametrize(("here", "there"), [(2, 3), (3, 2)])
def test_public_keys_of_rfc_7748(here: int, there: int) -> None:
    assert agreement.public_key(bytes.fromhex(X25519[here][0])).hex() == X25519[there][1]


@pytest.mark.parametrize(("salt", "info", "key"), HKDF)
def test_hkdf_of_rfc_5869(salt: str | None, info: str, key: str) -> None:
    raw_salt = None if salt is None else bytes.fromhex(salt)
    assert agreement._hkdf(b"\x0b" * 22, bytes.fromhex(info), 42, raw_salt).hex() == key


def test_aes_256_ctr_of_nist_sp_800_38a() -> None:
    """Section F.5.5, whose first counter block is where our stream stands after 16·0xf0f1..ff bytes."""
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    plain = bytes.fromhex(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )
    cipher = bytes.fromhex(
        "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
        "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
    )
    counter = int.from_bytes(bytes(range(0xF0, 0x100)), "big")
    expected = bytes(p ^ c for p, c in zip(plain, cipher, strict=True))
    assert MaskStream(key).bytes_at(16 * counter, 64) == expected
    # another call into the cipher makes the words, to the same effect
    assert MaskStream(key).words(4 * counter, 16).astype("<u4").tobytes() == expected


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_masking_vectors", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_checked_in_vectors_are_what_the_tool_makes() -> None:
    assert load_tool().main(["--check"]) == 0


@pytest.mark.parametrize("damage", ["altered", "missing", "foreign"])
def test_the_check_names_the_file_that_differs(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool = load_tool()
    assert tool.main(["--folder", str(tmp_path)]) == 0
    assert tool.main(["--check", "--folder", str(tmp_path)]) == 0
    stale = tmp_path / ("foreign.json" if damage == "foreign" else "graph.json")
    if damage == "missing":
        stale.unlink()
    else:
        stale.write_text("{}\n")
    assert tool.main(["--check", "--folder", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert str(stale) in message
    assert "shares.json" not in message


@pytest.mark.parametrize("case", VECTORS["shares"]["dealings"], ids=lambda case: f"t={case['threshold']}")
def test_shares_open_from_either_end(case: dict[str, Any]) -> None:
    for secret, row in zip(case["secrets"], case["shares"], strict=True):
        for chosen in (slice(case["threshold"]), slice(-case["threshold"], None)):
            opened = shamir.recover(points_of(case["points"][chosen]), shares_of(row[chosen]))
            assert opened.hex() == secret


def test_both_ends_agree_on_the_pair_mask() -> None:
    vectors = VECTORS["masks"]
    alice, bob = vectors["clients"]
    for own, peer in ((alice, bob), (bob, alice)):
        key = agreement.pair_mask_key(
            bytes.fromhex(own["mask_private"]),
            bytes.fromhex(peer["mask_public"]),
            plan_digest=digest(vectors["plan_digest"]),
            roster_digest=digest(vectors["roster_digest"]),
            one=ClientId(own["name"]),
            other=ClientId(peer["name"]),
        )
        assert key.hex() == vectors["pair_mask_key"]


def test_the_sealed_pair_opens() -> None:
    assert call_open({}).hex() == VECTORS["sealing"]["pair"]


@pytest.mark.parametrize("case", VECTORS["packing"]["packings"], ids=lambda case: f"{case['bits']} bits")
def test_packed_values_unpack(case: dict[str, Any]) -> None:
    number = sum(value << (case["bits"] * index) for index, value in enumerate(case["values"]))
    assert int.from_bytes(bytes.fromhex(case["packed"]), "little") == number
    unpacked = packing.unpack(bytes.fromhex(case["packed"]), case["bits"], len(case["values"]))
    assert unpacked.tolist() == case["values"]


@pytest.mark.parametrize(("stem", "case"), ERROR_CASES, ids=[f"{stem}: {case['name']}" for stem, case in ERROR_CASES])
def test_error_cases(stem: str, case: dict[str, Any]) -> None:
    with pytest.raises(ERRORS[case["error"]]):
        CALLS[case["call"]](case["arguments"])


def digest(text: str) -> Digest:
    return Digest(bytes.fromhex(text))


def points_of(points: list[int]) -> np.ndarray:
    return np.array(points, dtype=np.uint32)


def shares_of(shares: list[str]) -> np.ndarray:
    return np.frombuffer(b"".join(map(bytes.fromhex, shares)), dtype="<u4").astype(np.uint32).reshape(-1, shamir.LIMBS)


def call_deal(given: dict[str, Any]) -> object:
    points = points_of(given["points"])
    return shamir.deal([KEY], threshold=given["threshold"], points=points, stream=MaskStream(KEY))


def call_open(changed: dict[str, Any]) -> bytes:
    """Open the vectors' sealed pair as its receiver, with some things changed."""
    vectors = VECTORS["sealing"]
    return sealing.open_sealed(
        bytes.fromhex(vectors["receiver"]["private"]),
        bytes.fromhex(vectors["sender"]["public"]),
        bytes.fromhex(changed.get("sealed", vectors["sealed"])),
        plan_digest=digest(changed.get("plan_digest", vectors["plan_digest"])),
        roster_digest=digest(changed.get("roster_digest", vectors["roster_digest"])),
        sender=ClientId(changed.get("sender", vectors["sender"]["name"])),
        receiver=ClientId(changed.get("receiver", vectors["receiver"]["name"])),
    )


CALLS: dict[str, Callable[[dict[str, Any]], object]] = {
    "decode_share": lambda given: shamir.decode_share(bytes.fromhex(given["data"])),
    "recover": lambda given: shamir.recover(points_of(given["points"]), shares_of(given["shares"])),
    "deal": call_deal,
    "neighbours": lambda given: graph.neighbours(Digest(KEY), given["clients"], given["degree"]),
    "agree": lambda given: agreement.agree(KEY, bytes.fromhex(given["peer"])),
    "self_mask_key": lambda given: agreement.self_mask_key(
        bytes.fromhex(given["seed"]), plan_digest=Digest(KEY), roster_digest=Digest(KEY), client=ALICE
    ),
    "seed_commitment": lambda given: agreement.seed_commitment(
        bytes.fromhex(given["seed"]), plan_digest=Digest(KEY), client=ALICE
    ),
    "client_secrets": lambda given: ClientSecrets.of(
        bytes.fromhex(given["seed"]), plan_digest=Digest(KEY), client=ALICE
    ),
    "stream": lambda given: MaskStream(bytes.fromhex(given["key"])).words(given["start"], 1),
    "open": call_open,
    "decode_pair": lambda given: sealing.decode_pair(bytes.fromhex(given["data"])),
    "unpack": lambda given: packing.unpack(bytes.fromhex(given["data"]), given["bits"], given["count"]),
    "pack": lambda given: packing.pack(np.array(given["values"], dtype=np.uint32), given["bits"]),
}
