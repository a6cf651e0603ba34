"""Make the known answers of tests/vectors/he with TenSEAL alone; nothing of `he` is imported.

Run `python tools/make_he_vectors.py` from the root. SEAL's sampling cannot be seeded, so each run
makes other bytes: run the tests of tests/vectors afterwards, and commit both.
"""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import tenseal
import zstandard

FOLDER = Path(__file__).parent.parent / "tests" / "vectors" / "he"

SETS = {
    "small": {"degree": 2048, "bits": [27, 27], "values": 1500, "scale": 2.0**20},
    "preset": {"degree": 4096, "bits": [27, 27, 27, 28], "values": 2048, "scale": 2.0**60},
}

# Offsets into the first chunk of "small", unpacked and with a plain 16-byte header.
CHUNK_ERRORS = [
    ["another magic number", 0, "0000", "FormatError"],
    ["SEAL 3", 3, "03", "FormatError"],
    ["unknown compression", 5, "07", "FormatError"],
    ["a total size that lies", 8, "ffffffffffffffff", "FormatError"],
    ["another parms_id", 16, "00", "CiphertextError"],
    ["not in NTT form", 48, "00", "CiphertextError"],
    ["an NTT flag of 2", 48, "02", "FormatError"],
    ["three polynomials announced", 49, "03", "FormatError"],
    ["another degree", 57, "0010", "FormatError"],
    ["a level more", 65, "02", "FormatError"],
    ["level and size exchanged", 49, "0100000000000000" + "0008000000000000" + "02", "CiphertextError"],
    ["half the scale", 73, struct.pack("<d", 2.0**19).hex(), "CiphertextError"],
    ["a scale that is not a number", 73, struct.pack("<d", float("nan")).hex(), "FormatError"],
    ["a correction factor", 81, "02", "CiphertextError"],
    ["a compressed array", 94, "02", "FormatError"],
    ["an array of half the length, as a seeded ciphertext has", 105, "0008", "FormatError"],
    ["a residue equal to its prime", 113, "PRIME", "CiphertextError"],
    ["a residue of 64 bits", 113, "ffffffffffffffff", "CiphertextError"],
]


def main() -> None:
    """Write every file and the index."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    index: dict[str, Any] = {"made_by": f"TenSEAL {tenseal.__version__}"}
    for name, chosen in SETS.items():
        index[name] = make_set(name, chosen)
    prime = struct.pack("<Q", index["small"]["primes"][0]).hex()
    index["chunk_errors"] = [
        {"name": what, "offset": offset, "patch": prime if patch == "PRIME" else patch, "error": error}
        for what, offset, patch, error in CHUNK_ERRORS
    ]
    (FOLDER / "index.json").write_text(json.dumps(index, indent=1) + "\n")


def make_set(name: str, chosen: dict[str, Any]) -> dict[str, Any]:
    """One context, its secret, two vectors and their sum as TenSEAL makes them."""
    context = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS, chosen["degree"], coeff_mod_bit_sizes=chosen["bits"], n_threads=1
    )
    context.global_scale = chosen["scale"]
    generator = np.random.default_rng(chosen["degree"])
    plain = generator.uniform(-1, 1, (2, chosen["values"]))
    first, second = (tenseal.ckks_vector(context, vector.tolist()) for vector in plain)
    total = first + second
    secret = secret_key(context)
    primes = primes_of(context)
    write(name, "plain.f64", plain.astype("<f8").tobytes())
    write(name, "total.f64", np.array(total.decrypt(), dtype="<f8").tobytes())
    write(name, "total.ckksvector", total.serialize())
    write(name, "secret.u32.zst", zstandard.compress(secret.astype("<u4").tobytes(), 19))
    if name == "small":
        write(name, "first.ckksvector", first.serialize())
        write(name, "second.ckksvector", second.serialize())
        write(name, "context", public_part(context))
    return {
        "degree": chosen["degree"],
        "primes": primes,
        "values": chosen["values"],
        "scale": chosen["scale"],
        "residues_sha256": {
            what: hashlib.sha256(residues(vector.serialize()).tobytes()).hexdigest()
            for what, vector in (("first", first), ("second", second), ("total", total))
        },
    }


def write(name: str, what: str, data: bytes) -> None:
    """One file of one set."""
    (FOLDER / f"{name}.{what}").write_bytes(data)


def public_part(context: tenseal.Context) -> bytes:
    """The context as a client would get it from TenSEAL."""
    saved = {"save_public_key": True, "save_secret_key": False, "save_galois_keys": False, "save_relin_keys": False}
    return bytes(context.serialize(**saved))


def seal_bodies(data: bytes) -> list[bytes]:
    """Unpacked bodies of all zstd SEAL objects in `data`, found by their magic number."""
    bodies = []
    position = data.find(b"\x5e\xa1\x10\x04")
    while position >= 0:
        mode, total = data[position + 5], struct.unpack_from("<Q", data, position + 8)[0]
        if mode != 2:
            raise ValueError(f"compression mode {mode} where TenSEAL writes zstd")
        bodies.append(zstandard.ZstdDecompressor().decompress(data[position + 16 : position + total]))
        position = data.find(b"\x5e\xa1\x10\x04", position + total)
    return bodies


def residues(vector: bytes) -> np.ndarray:
    """All residues of a serialised CKKSVector as little-endian uint32, chunk by chunk."""
    # parms_id 32, flag 1, five numbers of 8, then header 16 and count 8 of the array
    bodies = seal_bodies(vector)
    return np.concatenate([np.frombuffer(body, dtype="<u8", offset=32 + 1 + 40 + 24) for body in bodies]).astype("<u4")


def secret_key(context: tenseal.Context) -> np.ndarray:
    """The secret in SEAL's NTT form, one row for each key prime."""
    body = seal_bodies(context.serialize(save_secret_key=True, save_public_key=False))[-1]
    # parms_id 32, coefficient count 8, scale 8, then header 16 and count 8 of the array
    flat = np.frombuffer(body, dtype="<u8", offset=32 + 16 + 24)
    return flat.reshape(len(primes_of(context)), -1)


def primes_of(context: tenseal.Context) -> list[int]:
    """Key primes from the serialised encryption parameters."""
    body = seal_bodies(public_part(context))[0]
    count = struct.unpack_from("<Q", body, 9)[0]
    return [struct.unpack_from("<Q", body, 17 + 24 * index + 16)[0] for index in range(count)]


if __name__ == "__main__":
    main()
