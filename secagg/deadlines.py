"""How long each phase of a round may last."""

from __future__ import annotations

from dataclasses import dataclass

from secagg.plan_checks import require_positive


@dataclass(frozen=True, kw_only=True)
class Deadlines:
    """Seconds that each phase may last; in ``ckks`` a roster is sealed within `approving_seconds` too.

    ``keying``, ``approving`` and ``decrypting`` count in ``ckks`` rounds, ``sharing``, ``confirming`` and ``unmasking`` in
    ``masking`` rounds, the others in both.
    """

    keying_seconds: float = 60.0
    open_seconds: float = 600.0
    uploading_seconds: float = 600.0
    approving_seconds: float = 300.0
    decrypting_seconds: float = 300.0
    sharing_seconds: float = 120.0
    confirming_seconds: float = 120.0
    unmasking_seconds: float = 120.0

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            require_positive(getattr(self, name), f"deadlines.{name}")
