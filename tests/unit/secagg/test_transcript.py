from dataclasses import replace

from secagg import transcript
from secagg.ids import ClientId, Digest, HolderId, KeyId
from secagg.messages.ceremony import Dealing, Hello, KeyCommitment
from secagg.messages.round import Join, Upload

D = [Digest(bytes([i]) * 32) for i in range(10)]
HELLOS = tuple(
    Hello(
        ceremony_digest=D[0],
        holder=HolderId(f"h{i}"),
        nonce=D[i],
        hpke_public_key=D[i + 1],
        seed_commitment=D[i + 2],
    )
    for i in range(1, 4)
)
COMMITMENTS = tuple(KeyCommitment(context=D[0], holder=HolderId(f"h{i}"), commitment=D[i]) for i in range(1, 4))
DEALINGS = tuple(
    Dealing(context=D[0], holder=HolderId(f"h{i}"), b=b"b" * i, sealed_digests=(D[i], D[i + 1])) for i in range(1, 4)
)
JOINS = tuple(Join(plan_digest=D[0], client=ClientId(f"c{i}"), commitment=D[i]) for i in range(1, 4))
UPLOADS = tuple(
    Upload(
        plan_digest=D[0],
        roster_digest=D[1],
        client=ClientId(f"c{i}"),
        nonce=D[i],
        parameters_digest=D[2],
        level=3,
        scale=2.0**70,
        chunks=1,
        root_c0=D[i + 1],
        root_c1=D[i + 2],
    )
    for i in range(1, 4)
)


def test_a_context_holds_every_field_of_every_hello() -> None:
    first = HELLOS[0]
    variants = [
        replace(first, holder=HolderId("x")),
        replace(first, nonce=D[9]),
        replace(first, hpke_public_key=D[9]),
        replace(first, seed_commitment=D[9]),
    ]
    digests = {transcript.ceremony_context(D[0], (changed, *HELLOS[1:])) for changed in variants}
    digests |= {
        transcript.ceremony_context(D[0], HELLOS),
        transcript.ceremony_context(D[1], HELLOS),
        transcript.ceremony_context(D[0], HELLOS[::-1]),
        transcript.ceremony_context(D[0], HELLOS[:2]),
    }
    assert len(digests) == len(variants) + 4


def test_a_key_id_holds_every_commitment_and_dealing() -> None:
    ids = {
        transcript.key_id(D[0], COMMITMENTS, DEALINGS),
        transcript.key_id(D[1], COMMITMENTS, DEALINGS),
        transcript.key_id(D[0], (replace(COMMITMENTS[0], commitment=D[9]), *COMMITMENTS[1:]), DEALINGS),
        transcript.key_id(D[0], COMMITMENTS, (replace(DEALINGS[0], b=b"c"), *DEALINGS[1:])),
        transcript.key_id(D[0], COMMITMENTS, (replace(DEALINGS[0], sealed_digests=(D[1], D[9])), *DEALINGS[1:])),
    }
    assert len(ids) == 5


def test_sealing_info_tells_sender_from_receiver() -> None:
    assert transcript.sealing_info(D[0], "a", "b") != transcript.sealing_info(D[0], "b", "a")
    assert transcript.sealing_info(D[0], "ab", "c") != transcript.sealing_info(D[0], "a", "bc")


def test_a_root_holds_the_order_and_the_borders_of_chunks() -> None:
    def root(*chunks: bytes) -> Digest:
        tree = transcript.CiphertextRoot()
        for chunk in chunks:
            tree.add(chunk)
        assert len(tree.digests) == len(chunks)
        return tree.digest()

    assert len({root(b"ab", b"c"), root(b"a", b"bc"), root(b"c", b"ab"), root(b"abc"), root()}) == 5
    assert root(b"ab", b"c") == root(b"ab", b"c")


def test_a_commitment_is_bound_to_plan_key_client_nonce_and_both_roots() -> None:
    def commitment(i: int, client: str = "c") -> bytes:
        fields = [D[9] if place == i else D[place] for place in range(5)]
        return transcript.ciphertext_commitment(
            plan_digest=fields[0],
            key_id=KeyId(fields[1]),
            client=ClientId(client),
            nonce=fields[2],
            root_c0=fields[3],
            root_c1=fields[4],
        )

    assert len({commitment(i) for i in range(-1, 5)} | {commitment(-1, "d")}) == 7


def test_a_roster_is_the_same_in_any_order_and_another_with_any_other_entry() -> None:
    digest = transcript.roster_digest(D[0], JOINS)
    assert digest == transcript.roster_digest(D[0], JOINS[::-1])
    others = {
        transcript.roster_digest(D[1], JOINS),
        transcript.roster_digest(D[0], JOINS[:2]),
        transcript.roster_digest(D[0], (replace(JOINS[0], commitment=D[9]), *JOINS[1:])),
        transcript.roster_digest(D[0], (replace(JOINS[0], client=ClientId("x")), *JOINS[1:])),
    }
    assert len(others | {digest}) == 5


def test_a_request_names_one_set_of_contributions() -> None:
    digest = transcript.request_digest(D[0], D[1], UPLOADS)
    assert digest == transcript.request_digest(D[0], D[1], UPLOADS[::-1])
    changed = [{"client": ClientId("x")}, {"nonce": D[9]}, {"root_c0": D[9]}, {"root_c1": D[9]}]
    others = {transcript.request_digest(D[0], D[1], (replace(UPLOADS[0], **c), *UPLOADS[1:])) for c in changed}  # type: ignore[arg-type]
    others |= {
        transcript.request_digest(D[1], D[1], UPLOADS),
        transcript.request_digest(D[0], D[2], UPLOADS),
        transcript.request_digest(D[0], D[1], UPLOADS[:2]),
    }
    assert len(others | {digest}) == 8
