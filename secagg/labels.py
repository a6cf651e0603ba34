"""Domain-separation labels, one constant for each kind of signed or hashed thing.

A label is never built at run time and never used for two things: a signature or digest
made for one purpose must mean nothing anywhere else. See `docs/protocol.md`.
"""

from typing import Final

MAX_LABEL_BYTES: Final = 64

CEREMONY_PLAN: Final = b"secagg/v1/ceremony-plan-digest"
CEREMONY_CONTEXT: Final = b"secagg/v1/ceremony-context"
CEREMONY_TRANSCRIPT: Final = b"secagg/v1/ceremony-transcript"
SEALED_DEALING: Final = b"secagg/v1/sealed-dealing"
ROUND_PLAN: Final = b"secagg/v1/round-plan-digest"
CIPHERTEXT_ROOT: Final = b"secagg/v1/ciphertext-root"
CIPHERTEXT_COMMITMENT: Final = b"secagg/v1/ciphertext-commitment"
ROSTER_DIGEST: Final = b"secagg/v1/roster-digest"
REQUEST_DIGEST: Final = b"secagg/v1/request-digest"
CREATE_JOB: Final = b"secagg/v1/create-job-request"

HELLO: Final = b"secagg/v1/hello"
KEY_COMMITMENT: Final = b"secagg/v1/key-commitment"
DEALING: Final = b"secagg/v1/dealing"
TRIAL: Final = b"secagg/v1/trial"
KEY_STATEMENT: Final = b"secagg/v1/key-statement"
SEED_OPENING: Final = b"secagg/v1/seed-opening"
VERDICT: Final = b"secagg/v1/verdict"
JOIN: Final = b"secagg/v1/join"
ROSTER_SEAL: Final = b"secagg/v1/roster-seal"
UPLOAD: Final = b"secagg/v1/upload"
APPROVAL: Final = b"secagg/v1/approval"
PARTIAL: Final = b"secagg/v1/partial"
RESULT: Final = b"secagg/v1/result"

PURGE_RECEIPT: Final = b"secagg/v1/purge-receipt"
PURGED_CONTRIBUTIONS: Final = b"secagg/v1/purged-contributions"
PURGED_HOLDERS: Final = b"secagg/v1/purged-holders"
PURGED_AUDIT: Final = b"secagg/v1/purged-audit"

MASKING_ROSTER_DIGEST: Final = b"secagg/v1/masking-roster-digest"
CLIENT_SECRET: Final = b"secagg/v1/masking-client-secret"
SEED_COMMITMENT: Final = b"secagg/v1/masking-seed-commitment"
NEIGHBOUR_GRAPH: Final = b"secagg/v1/masking-neighbour-graph"
SHARE_DEALING: Final = b"secagg/v1/masking-share-dealing"
SEALED_SHARE: Final = b"secagg/v1/masking-sealed-share"
PAIR_MASK: Final = b"secagg/v1/masking-pair-mask"
SELF_MASK: Final = b"secagg/v1/masking-self-mask"
SHARERS_DIGEST: Final = b"secagg/v1/masking-sharers-digest"
SURVIVORS_DIGEST: Final = b"secagg/v1/masking-survivors-digest"
MASKED_UPLOAD: Final = b"secagg/v1/masked-upload"
MASKING_JOIN: Final = b"secagg/v1/masking-join"
SHARES: Final = b"secagg/v1/masking-shares"
CONFIRMATION: Final = b"secagg/v1/masking-confirmation"
UNMASKING: Final = b"secagg/v1/masking-unmasking"


def is_label(label: bytes) -> bool:
    """Say whether these bytes can serve as a label: 1 to 64 printable ASCII bytes, no space.

    The framing ends a label with a zero byte, so a label must not hold one.
    """
    return 0 < len(label) <= MAX_LABEL_BYTES and all(0x21 <= byte <= 0x7E for byte in label)
