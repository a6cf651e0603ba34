"""The key ceremony's pure steps, in order; the messages travel in `secagg`.

1. hello: `nonce`, `hpke_public_key`, `seed_commitment`; the digest over plan and hellos is the
   `context`, and `public_a` is expanded from it.
2. `draw`, then send `HolderSecrets.opening_commitment`.
3. open `HolderSecrets.opening_bytes` (checked by `commitment`, read by `opening_from_bytes`); send
   every holder its sealed `deal`.
4. `assemble` the dealings (`Dealing.from_bytes`), add the openings with `collective_b`.
5. `trial_answer`, `verify_trial`; then `CeremonyShare.key_share` is what a holder keeps.
If the trial fails the key is dead: everyone opens its seed, and `blame` names who lied.

No dealer: any t of the n holders open, and t-1 know nothing. Source: docs/protocol.md, section
"Key ceremony" (DESIGN 4.2).
"""

from he.blame import Evidence, Verdict, blame
from he.dealing import CeremonyShare, Dealing, assemble, deal
from he.drawing import (
    SEED_BYTES,
    HolderSecrets,
    collective_b,
    commitment,
    draw,
    hpke_private_key,
    hpke_public_key,
    nonce,
    opening_from_bytes,
    public_a,
    seed_commitment,
)
from he.trial import TrialAnswer, trial_answer, trial_bound, verify_trial

__all__ = [
    "SEED_BYTES",
    "CeremonyShare",
    "Dealing",
    "Evidence",
    "HolderSecrets",
    "TrialAnswer",
    "Verdict",
    "assemble",
    "blame",
    "collective_b",
    "commitment",
    "deal",
    "draw",
    "hpke_private_key",
    "hpke_public_key",
    "nonce",
    "opening_from_bytes",
    "public_a",
    "seed_commitment",
    "trial_answer",
    "trial_bound",
    "verify_trial",
]
