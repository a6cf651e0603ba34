"""What the demo says of each protocol: how an update is hidden, what its phases are called, and who could see what."""

from __future__ import annotations

from dataclasses import dataclass

from secagg.demo.options import DemoOptions
from secagg.demo.protocols import CkksOptions, numbers_of
from secagg.messages.round import Phase
from secagg.plan import JobSpec

ThreeCells = tuple[str, str, str]


@dataclass(frozen=True, kw_only=True)
class Words:
    """Sentences and table rows.

    Attributes:
        how: how every update is hidden, and who opens the sum.
        adjective: what the updates are.
        phases: the phases that are timed, in their order, with their short names.
        saw: a party, what it saw, what it could not see.
        uncovered: what the protocol does not do.
    """

    how: str
    adjective: str
    phases: dict[Phase, str]
    saw: tuple[ThreeCells, ...]
    uncovered: str


def words_for(options: DemoOptions, spec: JobSpec) -> Words:
    """Return the words of the protocol that this demo runs."""
    return _of_ckks(options.protocol) if isinstance(options.protocol, CkksOptions) else _of_masking(spec)


def _of_ckks(options: CkksOptions) -> Words:
    n, t = options.holders, options.threshold
    return Words(
        how=f"Every update is encrypted with a key that [bold]{n} key holders[/] make anew for each round; any {t} of them open "
        f"the sum, after {options.quorum} approved it.",
        adjective="encrypted",
        phases={
            Phase.KEYING: "key",
            Phase.OPEN: "join",
            Phase.UPLOADING: "upload",
            Phase.APPROVING: "approve",
            Phase.DECRYPTING: "open",
        },
        saw=(
            ("a client", "its own update; the mean", "another client's update, weight or number of scans"),
            ("the coordinator", "names, sizes, ciphertexts; the mean and the total weight", "one update, one weight"),
            ("a key holder", "names and one half of each ciphertext", "any number at all, not even the mean"),
            (f"{t - 1} key holders and the coordinator", "what the coordinator saw", "one update, one weight"),
        ),
        uncovered="a client that colludes with the coordinator and sends a malformed ciphertext, lies about data, what a sum "
        "itself tells",
    )


def _of_masking(spec: JobSpec) -> Words:
    numbers = numbers_of(spec)
    k, t, q, corrupt = numbers.neighbours, numbers.threshold, numbers.quorum, numbers.corrupt
    clients = f"{corrupt} client{'s' if corrupt > 1 else ''}"
    return Words(
        how=f"Every update is hidden under masks that a client agrees with each of its [bold]{k} neighbours[/], and that cancel in "
        f"the sum. There are no key holders: any {t} neighbours give back the masks of a client that vanished, after {q} "
        f"clients signed who is in the sum.",
        adjective="masked",
        phases={
            Phase.OPEN: "join",
            Phase.SHARING: "share",
            Phase.UPLOADING: "upload",
            Phase.CONFIRMING: "confirm",
            Phase.UNMASKING: "unmask",
        },
        saw=(
            ("a client", "its own update; the mean", "another client's update, weight or number of scans"),
            (
                "the coordinator",
                "names, sizes, masked vectors, one of two secrets of each client; the mean and the total weight",
                "one update, one weight",
            ),
            (
                "a neighbour",
                "names, one share of each secret of a client",
                "a masked vector; what the shares are of",
            ),
            (f"{clients} and the coordinator", "what each of them saw", "the update or weight of anybody else"),
        ),
        uncovered="more clients in league with the coordinator than the plan bears, lies about data, what a sum itself tells",
    )
