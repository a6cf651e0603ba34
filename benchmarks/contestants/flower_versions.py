"""The versions of what Flower's figures hang on."""

from importlib.metadata import version


def versions() -> dict[str, str]:
    """Return package and version."""
    return {name: version(name) for name in ("flwr", "numpy", "cryptography", "ray")}
