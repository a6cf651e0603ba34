"""Making and reading dealings: everything between b_i and a share on trial (docs/protocol.md, 4.4 and 4.5)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from he import ceremony as steps
from he.errors import FormatError
from he.parameters import Parameters
from secagg import transcript
from secagg.errors import FaultyCoordinatorError, FaultyKeyHolderError, MessageError
from secagg.ids import Digest, HolderId
from secagg.messages.ceremony import Dealing, DealingBundle, Hello, KeyCommitment
from secagg.messages.signed import Authenticated
from secagg.roles.key_holder.relayed import Reader
from secagg.roles.key_holder.sealing import seal, unseal


@dataclass(frozen=True, kw_only=True)
class Grievance:
    """What an honest reader may complain of: a holder's message that cannot be used."""

    holder: HolderId
    reason: str

    def __str__(self) -> str:
        return f"{self.holder}: {self.reason}"


def deal_to_all(
    secrets: steps.HolderSecrets, *, context: Digest, holder: HolderId, hellos: Sequence[Hello]
) -> tuple[Dealing, dict[HolderId, bytes]]:
    """Return the dealing to sign, and what is sealed to every holder, the sender included."""
    sealed = {
        hello.holder: seal(
            steps.deal(secrets, number).to_bytes(),
            public_key=hello.hpke_public_key,
            info=transcript.sealing_info(context, holder, hello.holder),
        )
        for number, hello in enumerate(hellos, start=1)
    }
    digests = tuple(Digest(hashlib.sha256(part).digest()) for part in sealed.values())
    return Dealing(context=context, holder=holder, b=secrets.opening_bytes, sealed_digests=digests), sealed


def verify_dealing(reader: Reader, context: Digest, bundle: DealingBundle, receivers: Sequence[HolderId]) -> None:
    """Check a relayed dealing and that the parts sealed to `receivers`, and no others, came with it as they were signed.

    Raises:
        FaultyKeyHolderError: the signed message itself has another form.
        FaultyCoordinatorError: it belongs elsewhere, or a part is missing or altered.
    """
    dealing, group = bundle.dealing.message, reader.group
    if dealing.context != context:
        raise FaultyCoordinatorError(f"the dealing of {dealing.holder} belongs to another ceremony or to other hellos")
    if len(dealing.sealed_digests) != len(group.holders):
        raise FaultyKeyHolderError(dealing.holder, f"its dealing names {len(dealing.sealed_digests)} sealed parts")
    if set(bundle.sealed) != set(receivers):
        raise FaultyCoordinatorError(f"the dealing of {dealing.holder} came with other sealed parts than were due")
    for receiver, sealed in bundle.sealed.items():
        signed = dealing.sealed_digests[group.index(receiver) - 1]
        if not hmac.compare_digest(hashlib.sha256(sealed).digest(), signed):
            raise FaultyCoordinatorError(f"what {dealing.holder} sealed to {receiver} was altered")


def read_opening(parameters: Parameters, commitment: KeyCommitment, dealing: Dealing, number: int) -> Grievance | None:
    """Return why the opened b of holder `number` cannot be used, or None."""
    expected = steps.commitment(number, dealing.context, dealing.b)
    if not hmac.compare_digest(expected, commitment.commitment):
        return Grievance(holder=dealing.holder, reason="its opening does not fit its commitment")
    try:
        steps.opening_from_bytes(parameters, dealing.b)
    except FormatError as error:
        return Grievance(holder=dealing.holder, reason=f"its opening cannot be read: {error}")
    return None


def open_part(bundle: DealingBundle, receiver: HolderId, private_key: bytes) -> bytes | None:
    """Return what was sealed to `receiver`, or None if it does not open under the private key."""
    dealing = bundle.dealing.message
    info = transcript.sealing_info(dealing.context, dealing.holder, receiver)
    try:
        return unseal(bundle.sealed[receiver], private_key=private_key, info=info)
    except MessageError:
        return None


def read_part(parameters: Parameters, part: bytes | None, sender: int, receiver: int) -> steps.Dealing | None:
    """Return the dealing in an opened part, or None where there is none."""
    if part is None:
        return None
    try:
        return steps.Dealing.from_bytes(parameters, part, sender=sender, receiver=receiver)
    except FormatError:
        return None


def assemble_share(
    secrets: steps.HolderSecrets,
    reader: Reader,
    commitments: Sequence[Authenticated[KeyCommitment]],
    bundles: Sequence[DealingBundle],
) -> steps.CeremonyShare | Grievance:
    """Return the reader's share on trial, or the first thing that keeps it from having one."""
    parameters, receiver = secrets.parameters, secrets.holder
    private_key = steps.hpke_private_key(receiver, secrets.seed)
    received: dict[int, steps.Dealing] = {receiver: steps.deal(secrets, receiver)}
    for sender, (commitment, bundle) in enumerate(zip(commitments, bundles, strict=True), start=1):
        grievance = read_opening(parameters, commitment.message, bundle.dealing.message, sender)
        if grievance is not None:
            return grievance
        if sender == receiver:
            continue
        dealing = read_part(parameters, open_part(bundle, reader.holder, private_key), sender, receiver)
        if dealing is None:
            return Grievance(holder=bundle.dealing.message.holder, reason="what it sealed cannot be opened or read")
        received[sender] = dealing
    return steps.assemble(parameters, receiver, secrets.context, received.values())
