"""The versions of what Flower's figures hang on."""

import platform
from importlib.metadata import version


def versions() -> dict[str, str]:
    """Return package and version."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("flwr", "numpy", "cryptography", "ray")},
    }
