"""A second place that knows how far a key holder's database is, so that an old copy of it is known when it is put back.

Each change of the database counts its generation up, and the witness follows before anything is answered: at a start, the
database is as far as its witness, or one change ahead when the process died in between. Whoever puts back an old copy of both
is not noticed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from secagg.atomic_files import PRIVATE_FILE_MODE, write_atomically
from secagg.errors import ConfigError

WITNESS_NAME: Final = "key-holder.generation.json"
_WAY_OUT: Final = (
    "If the data directory is a copy that was put back, give up its open keys: "
    "`secagg key-holder restore --config FILE --from DATA_DIR --replace`"
)


@dataclass(frozen=True, kw_only=True)
class Mark:
    """How far a database is: its own number, 16 bytes, and how often it was changed."""

    store_id: bytes
    generation: int


class Witness:
    """A file in a directory that is not the database's own."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / WITNESS_NAME

    def read(self) -> Mark | None:
        """Return what was witnessed last; None when there is no such file.

        Raises:
            ConfigError: it cannot be read.
        """
        try:
            content = json.loads(self.path.read_bytes())
            return Mark(store_id=bytes.fromhex(content["store"]), generation=int(content["generation"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            raise ConfigError(f"the witness {self.path} cannot be read", next_step=_WAY_OUT) from None

    def write(self, mark: Mark) -> None:
        """Witness a generation; `StorageError` when it cannot be written."""
        content = {"store": mark.store_id.hex(), "generation": mark.generation}
        write_atomically(self.path, json.dumps(content).encode(), mode=PRIVATE_FILE_MODE)

    def verify(self, mark: Mark, *, holds_keys: bool) -> None:
        """Check that a database is the newest.

        Args:
            mark: how far the database is.
            holds_keys: whether a share lies in it.

        Raises:
            ConfigError: it is older than its witness, or another one, or nobody can tell.
        """
        seen = self.read()
        # An unused database that holds no key can answer nothing; an older version's has no witness yet.
        if mark.generation == 0 and (not holds_keys or seen is None):
            return
        if seen is None:
            reason = f"the database is in use, and its witness {self.path} is gone, so an old copy would not be noticed"
            raise ConfigError(reason, next_step=_WAY_OUT)
        if mark.store_id != seen.store_id:
            raise ConfigError(f"the database is not the one that {self.path} witnessed", next_step=_WAY_OUT)
        if not seen.generation <= mark.generation <= seen.generation + 1:
            behind = seen.generation - mark.generation
            age = f"{behind} changes older" if behind > 0 else f"{-behind} changes newer"
            raise ConfigError(f"the database is {age} than {self.path} witnessed", next_step=_WAY_OUT)
