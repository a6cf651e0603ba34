"""Which role may call which method; what is not named here is refused (DESIGN section 3)."""

from __future__ import annotations

from typing import Final

from secagg.identity import Role
from secagg.transport import AccessTable

_CLIENTS: Final = frozenset({Role.CLIENT})
_OPERATORS: Final = frozenset({Role.OPERATOR})
_READERS: Final = frozenset({Role.OPERATOR, Role.AUDITOR})
_CALLERS: Final = frozenset({Role.CLIENT, Role.OPERATOR, Role.AUDITOR})

CLIENT_SERVICE: Final = "secagg.wire.v1.ClientService"
MASKING_SERVICE: Final = "secagg.wire.v1.MaskingService"
OPERATOR_SERVICE: Final = "secagg.wire.v1.OperatorService"
HEALTH_SERVICE: Final = "grpc.health.v1.Health"
REFLECTION_SERVICE: Final = "grpc.reflection.v1alpha.ServerReflection"

_ROLES: Final = {
    CLIENT_SERVICE: {
        "WaitForRound": _CLIENTS,
        "Join": _CLIENTS,
        "WaitForRoster": _CLIENTS,
        "GetUploadOffsets": _CLIENTS,
        "UploadHalves": _CLIENTS,
        "CompleteUpload": _CLIENTS,
        "WaitForResult": _CLIENTS,
        "DownloadMean": _CLIENTS,
    },
    MASKING_SERVICE: {
        "SendShares": _CLIENTS,
        "WaitForShares": _CLIENTS,
        "GetVectorOffset": _CLIENTS,
        "UploadVector": _CLIENTS,
        "CompleteVector": _CLIENTS,
        "WaitForSurvivors": _CLIENTS,
        "Confirm": _CLIENTS,
        "WaitForConfirmations": _CLIENTS,
        "Unmask": _CLIENTS,
    },
    OPERATOR_SERVICE: {
        "CreateJob": _OPERATORS,
        "ListJobs": _READERS,
        "GetJob": _READERS,
        "ListRounds": _READERS,
        "GetRound": _READERS,
        "WatchRounds": _READERS,
    },
    HEALTH_SERVICE: {"Check": _CALLERS, "List": _CALLERS, "Watch": _CALLERS},
    REFLECTION_SERVICE: {"ServerReflectionInfo": _CALLERS},
}

ACCESS: Final[AccessTable] = {
    f"/{service}/{method}": roles for service, methods in _ROLES.items() for method, roles in methods.items()
}
