"""A whole masking round of real clients' machines, up to the moment at which the coordinator takes the masks off."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contestants.masking_people import Person, numbers_of, plan_of, roster_of, update_of
from coordinator.store.blobs import DirectoryBlobStore
from coordinator.streams import UploadKey
from secagg.masking.graph import ring_order
from secagg.roles.neighbourhood import Neighbourhood
from secagg.transcript import masking_roster_digest


def play(case: dict[str, Any], blobs: DirectoryBlobStore, folder: Path) -> dict[str, Any]:
    """Return what `coordinator.rounds.unmasking` reads of a round's state; the vectors go into `blobs`, the true mean to `folder`."""
    plan = plan_of(case)
    numbers = numbers_of(case, plan)
    people = [Person(place, plan, numbers) for place in range(case["clients"])]
    joins = [one.joins() for one in people]
    roster = roster_of(plan, numbers, joins)
    digest, names = masking_roster_digest(roster), roster.clients
    house = Neighbourhood.of(
        digest, names, degree=numbers.neighbours, threshold=numbers.threshold, quorum=numbers.quorum
    )
    sealed = {
        one.client: dict(zip(house.neighbours_of(one.client), one.takes_roster(roster).message.sealed, strict=True))
        for one in people
    }
    # At equal distances on the ring, so that each keeps nearly as many neighbours as any other.
    dropped = case["dropped"]
    gone = set(ring_order(digest, len(names))[np.arange(dropped) * len(names) // max(dropped, 1)].tolist())
    survivors = [one for one in people if one.place not in gone]
    mean = np.zeros(case["values"] - 1)
    for one in survivors:
        update = update_of(one.place, plan.spec)
        one.sees_sharers(names, {other: sealed[other][one.client] for other in house.neighbours_of(one.client)}, update)
        key = UploadKey(job=plan.spec.job, round=plan.round, client=one.client)
        blobs.write(key.blob("vector"), iter(one.vector))
        one.vector = []
        mean += update["w"] / len(survivors)
    np.save(folder / "mean.npy", mean.astype(np.float32))
    staying = tuple(one.client for one in survivors)
    confirmations = [one.sees_survivors(staying) for one in survivors]
    return {
        "state": {
            "spec": plan.spec,
            "round": plan.round,
            "certified": plan,
            "frozen_digest": digest,
            "neighbourhood": house,
            "clients": names,
            "joins": dict(zip(names, joins, strict=True)),
            "threshold": numbers.threshold,
            "sharers": names,
            "survivors": staying,
            "unmaskings": {one.client: one.sees_confirmations(confirmations) for one in survivors},
        }
    }
