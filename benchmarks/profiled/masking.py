"""The hot paths of `masking`: all that one client computes in a round, and all that the coordinator does from vectors to their sum.

`case`: {"clients", "shares", "threshold", "values"}, and "dropped" for the coordinator's part.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

import secagg.masking.masks
import secagg.roles.client.masking.rules
from benchmarks.contestants import masking_people, sumveil_masking
from benchmarks.profiled.watch import Stages, profiled
from benchmarks.stage import Run
from coordinator.rounds.unmasking import take_off
from coordinator.store.blobs import DirectoryBlobStore
from coordinator.streams import Spool, UploadKey
from coordinator.vectors import VectorSpool
from secagg import codec
from secagg.ids import ClientId, Digest, JobId, RoundNumber
from secagg.masking.graph import neighbours, ring_order
from secagg.masking.masks import MaskedSum, Masks, piece_bytes, pieces
from secagg.masking.parameters import MaskingParameters
from secagg.masking.secrets_of_client import ClientSecrets
from secagg.masking.shamir import deal, encode_share
from secagg.masking.stream import MaskStream, Words
from secagg.masking.unmasking import UnmaskedRound, masks_in_sum, recover_secrets
from secagg.messages.masking import MaskingJoin

PLAN, ROSTER = Digest(sha256(b"plan").digest()), Digest(sha256(b"roster").digest())
_THIS = sys.modules[__name__]


def client(case: Mapping[str, Any]) -> Run:
    """All phases of one client, signatures of a whole roster included."""
    around = sumveil_masking.Around(dict(case))

    def whole() -> None:
        one = masking_people.Person(sumveil_masking.OWN, around.plan, around.numbers)
        one.joins()
        one.takes_roster(around.read_roster())
        one.sees_sharers(around.names, around.sealed, around.update)
        one.sees_survivors(around.names)
        one.sees_confirmations(around.read_confirmations())

    rules = secagg.roles.client.masking.rules
    stages: Stages = {
        "verify signatures": [(codec, "masking_roster_from_wire"), (codec, "authenticate_all")],
        "deal, seal and open shares": [(rules, "deal"), (rules, "seal"), (rules, "open_sealed")],
        "agree on masks": [(rules, "pair_mask_key")],
        "pack and clip": [(masking_people, "packed")],
        "quantise": [(secagg.masking.masks, "quantise")],
        "keystreams, added": [(MaskStream, "add_to"), (MaskStream, "subtract_from"), (MaskStream, "words")],
        "pack bits": [(secagg.masking.masks, "pack")],
    }
    return profiled(whole, stages)


class Vanished:
    """A round in which some clients uploaded and some are gone, with every share that is needed revealed.

    The uploads hold random bits: what they are does not change what is done with them, and `bench_unmasking` checks sums.
    """

    def __init__(self, case: Mapping[str, Any]) -> None:
        self.clients, self.threshold = case["clients"], case["threshold"]
        self.parameters = MaskingParameters(values=case["values"], max_clients=self.clients, clip=1.0)
        # One of a client's shares is its own, as a peer counts them.
        self.graph = neighbours(ROSTER, self.clients, case["shares"] - 1).tolist()
        # At equal distances on the ring, so that each client keeps as many neighbours as any other.
        gone = ring_order(ROSTER, self.clients)[np.arange(case["dropped"]) * self.clients // max(case["dropped"], 1)]
        self.survivors = sorted(set(range(self.clients)) - set(gone.tolist()))

    @cached_property
    def secrets(self) -> list[ClientSecrets]:
        return [
            ClientSecrets.of(sha256(b"%d" % place).digest(), plan_digest=PLAN, client=_name(place))
            for place in range(self.clients)
        ]

    @cached_property
    def round(self) -> UnmaskedRound:
        dealt = [self._dealt(own, others) for own, others in enumerate(self.graph)]

        def revealed(holder: int, owner: int) -> bytes:
            return encode_share(dealt[owner][int(owner not in self.survivors), self.graph[owner].index(holder)])

        return UnmaskedRound(
            plan_digest=PLAN,
            roster_digest=ROSTER,
            joins=[_join(place, one) for place, one in enumerate(self.secrets)],
            graph=np.array(self.graph),
            threshold=self.threshold,
            sharers=frozenset(range(self.clients)),
            survivors=frozenset(self.survivors),
            revealed={holder: [revealed(holder, owner) for owner in self.graph[holder]] for holder in self.survivors},
        )

    def _dealt(self, own: int, others: Sequence[int]) -> Words:
        """Shares of a client's self-mask seed and of its mask key, uint32 (2, others, 9)."""
        one, points = self.secrets[own], np.array(others, dtype=np.uint32) + np.uint32(1)
        stream = MaskStream(one.dealing_key)
        return deal([one.self_seed, one.mask_private], threshold=self.threshold, points=points, stream=stream)

    def masks(self) -> Masks:
        found = recover_secrets(self.round)
        assert not found.unopened
        return masks_in_sum(self.round, found.secrets)

    def keys(self) -> list[UploadKey]:
        return [UploadKey(job=JobId("bench"), round=RoundNumber(1), client=_name(place)) for place in self.survivors]

    def write(self, blobs: DirectoryBlobStore) -> None:
        generator = np.random.default_rng(0)
        for key in self.keys():
            sizes = (piece_bytes(start, stop, self.parameters)[1] for start, stop in pieces(self.parameters))
            blobs.write(key.blob("vector"), (generator.bytes(size) for size in sizes))


def _name(place: int) -> ClientId:
    return ClientId(f"client-{place:03}")


def _join(place: int, one: ClientSecrets) -> MaskingJoin:
    return MaskingJoin(
        plan_digest=PLAN,
        client=_name(place),
        mask_key=one.mask_public,
        share_key=one.share_public,
        seed_commitment=one.commitment,
    )


def unmasking(case: Mapping[str, Any]) -> Run:
    """From vectors on disk and revealed shares to the sum, in one lane."""
    vanished, directory = Vanished(case), tempfile.TemporaryDirectory()
    blobs, parameters, keys = DirectoryBlobStore(Path(directory.name)), vanished.parameters, vanished.keys()
    vanished.write(blobs)
    assert vanished.round.joins
    vectors = VectorSpool(blobs, Spool(blobs, max_bytes=1))

    def whole() -> None:
        masks = vanished.masks()
        for piece in pieces(parameters):
            total = MaskedSum(parameters, piece)
            vectors.add_up(total, parameters, keys, (piece,))
            take_off(total, masks, (piece,))
            total.values(len(keys))
        assert directory.name  # It lives as long as what reads it.

    stages: Stages = {
        "recover secrets": [(_THIS, "recover_secrets")],
        "agree on masks": [(_THIS, "masks_in_sum")],
        "read and add vectors": [(VectorSpool, "add_up")],
        "unpack bits": [(secagg.masking.masks, "unpack")],
        "keystreams, taken off": [(MaskStream, "add_to"), (MaskStream, "subtract_from")],
        "dequantise": [(MaskedSum, "values")],
    }
    return profiled(whole, stages)
