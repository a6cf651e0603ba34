"""Which role may call which method; what is not named here is refused (DESIGN section 3)."""

from __future__ import annotations

from typing import Final

from secagg.identity import Role
from secagg.transport import AccessTable

_COORDINATORS: Final = frozenset({Role.COORDINATOR})
_WATCHERS: Final = frozenset({Role.COORDINATOR, Role.OPERATOR, Role.AUDITOR})

KEY_HOLDER_SERVICE: Final = "secagg.wire.v1.KeyHolderService"
HEALTH_SERVICE: Final = "grpc.health.v1.Health"
REFLECTION_SERVICE: Final = "grpc.reflection.v1alpha.ServerReflection"

_ROLES: Final = {
    KEY_HOLDER_SERVICE: {
        "BeginCeremony": _COORDINATORS,
        "CommitKey": _COORDINATORS,
        "DealShares": _COORDINATORS,
        "TryKey": _COORDINATORS,
        "CertifyKey": _COORDINATORS,
        "OpenSeed": _COORDINATORS,
        "LayBlame": _COORDINATORS,
        "SealRoster": _COORDINATORS,
        "Approve": _COORDINATORS,
        "Decrypt": _COORDINATORS,
        "EndRound": _COORDINATORS,
    },
    HEALTH_SERVICE: {"Check": _WATCHERS, "List": _WATCHERS, "Watch": _WATCHERS},
    REFLECTION_SERVICE: {"ServerReflectionInfo": _WATCHERS},
}

ACCESS: Final[AccessTable] = {
    f"/{service}/{method}": roles for service, methods in _ROLES.items() for method, roles in methods.items()
}
