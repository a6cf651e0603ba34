"""Configuration: one TOML file, overrides from the environment, and errors that name file, key and way out.

``SECAGG_COORDINATOR_LIMITS__SPOOL_BYTES=1000`` overrides ``spool_bytes`` of the table ``[limits]`` of a coordinator's file.
Relative paths count from the directory of the file, not from where the process was started.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails

from secagg.errors import ConfigError, SecAggError
from secagg.party import check_name

NESTING: Final = "__"
CONFIG_VARIABLE_END: Final = "CONFIG"
"""``SECAGG_<ROLE>_CONFIG`` names the file itself; it is no key."""

_BASE: Final = "base"
_Location = tuple[int | str, ...]


class Settings(BaseModel):
    """The base of every configuration model: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


Model = TypeVar("Model", bound=Settings)


def _from_base(path: Path, info: ValidationInfo) -> Path:
    base = (info.context or {}).get(_BASE, Path())
    return Path(base / path.expanduser()).absolute()


def _address(text: str) -> str:
    host, separator, port = text.rpartition(":")
    if not (host and separator and port.isdecimal() and int(port) <= 65535):
        message = "give host:port, such as 127.0.0.1:7443"
        raise ValueError(message)
    return text


def _addresses(value: object) -> str | tuple[str, ...]:
    several = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not several or not all(isinstance(one, str) for one in several):
        message = "give host:port, such as 127.0.0.1:7443, or a list of them"
        raise ValueError(message)
    checked = tuple(_address(one) for one in several)
    if len(set(checked)) < len(checked):
        message = "an address stands there twice"
        raise ValueError(message)
    return checked[0] if isinstance(value, str) else checked


def _name(text: str) -> str:
    try:
        return check_name(text)
    except SecAggError as error:
        raise ValueError(error.cause) from None


SettingsPath = Annotated[Path, AfterValidator(_from_base)]
"""A path; a relative one counts from the directory of the configuration file."""
Address = Annotated[str, AfterValidator(_address)]
"""``host:port``."""
Addresses = Annotated[str | tuple[str, ...], BeforeValidator(_addresses)]
"""``host:port``, or a list of them."""
PartyName = Annotated[str, AfterValidator(_name)]
"""A party's name as it stands in its certificate."""


class LogSettings(Settings):
    """How a service logs: ``json`` for machines, ``console`` for people."""

    format: Literal["json", "console"] = "json"
    level: Literal["debug", "info", "warning", "error"] = "info"


class CoordinatorPeer(Settings):
    """Where the coordinator listens, and the name that its certificate must carry.

    Several coordinators of one database are one party: a list of addresses, and one name.
    """

    address: Addresses
    name: PartyName = "coordinator"

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every address, in the order given."""
        return (self.address,) if isinstance(self.address, str) else self.address


class OperatorSettings(Settings):
    """Configuration of ``secagg job`` and ``secagg round``; ``identity`` is the directory that ``secagg pki issue`` made."""

    identity: SettingsPath
    coordinator: CoordinatorPeer
    timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0


def load_settings(
    model: type[Model], path: Path | None, env_prefix: str, *, environment: Mapping[str, str] | None = None
) -> Model:
    """Read a configuration.

    Args:
        model: what to read.
        path: the TOML file; None takes everything from the environment.
        env_prefix: ``SECAGG_COORDINATOR_`` and the like; upper case, with the underscore at its end.
        environment: the process's own when left out.

    Raises:
        ConfigError: no file, no TOML, an unknown or missing key, or a value that does not fit. It names file and key, and
            never shows a value.
    """
    overrides = _overrides(os.environ if environment is None else environment, env_prefix)
    values = {} if path is None else _read(path)
    for location in overrides:
        _put(values, location, overrides[location], env_prefix)
    base = Path.cwd() if path is None else path.absolute().parent
    try:
        return model.model_validate(values, context={_BASE: base})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise _explained(first, model, path, overrides, env_prefix) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        advice = "Give --config the path of a TOML file; docs/samples/ holds one for every role"
        raise ConfigError(f"{path} cannot be read: {error.strerror}", next_step=advice) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        advice = "Correct that line; strings stand in quotes, tables in [brackets]"
        raise ConfigError(f"{path} is not TOML: {error}", next_step=advice) from None


def _overrides(environment: Mapping[str, str], prefix: str) -> dict[tuple[str, ...], str]:
    found = {}
    for variable in sorted(environment):
        if variable.startswith(prefix) and variable != prefix + CONFIG_VARIABLE_END:
            key = variable.removeprefix(prefix).lower()
            found[tuple(key.split(NESTING))] = environment[variable]
    return found


def _variable(prefix: str, location: _Location) -> str:
    return prefix + NESTING.join(str(part) for part in location).upper()


def _put(values: dict[str, Any], location: tuple[str, ...], text: str, prefix: str) -> None:
    table: Any = values
    for part in location[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{_variable(prefix, location)} is set, and {part} is not a table")
    table[location[-1]] = _parsed(text, _variable(prefix, location))


def _parsed(text: str, variable: str) -> Any:
    """Read lists and tables as TOML does; everything else stays text, which the model turns into what it wants."""
    if not text.startswith(("[", "{")):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        raise ConfigError(f"{variable} is neither a list nor a table in TOML's form") from None


def _explained(
    error: ErrorDetails,
    model: type[Settings],
    path: Path | None,
    overrides: Mapping[tuple[str, ...], str],
    prefix: str,
) -> ConfigError:
    location = error["loc"]
    key = ".".join(str(part) for part in location)
    from_environment = any(location[: len(one)] == one for one in overrides)
    source = _variable(prefix, location) if from_environment or path is None else f"{path}: {key or 'the file'}"
    if error["type"] == "missing":
        return ConfigError(f"{source} is missing", next_step=f"Set {key}, or {_variable(prefix, location)}")
    if error["type"] == "extra_forbidden":
        return ConfigError(f"{source} is not a setting", next_step=_nearest(model, location))
    reason = error["msg"].removeprefix("Value error, ")
    if not key:
        return ConfigError(f"{source}: {reason}", next_step="Correct it there")
    return ConfigError(
        f"{source}: {reason}", next_step=f"Correct it there; {_variable(prefix, location)} would override it"
    )


def _nearest(model: type[Settings], location: _Location) -> str:
    known = _keys_beside(model, location)
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    if close:
        return f"Did you mean {close[0]}?"
    return f"Remove it; there are: {', '.join(known)}" if known else "Remove it"


def _keys_beside(model: type[Settings], location: _Location) -> list[str]:
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        inner = None if field is None else field.annotation
        if not (isinstance(inner, type) and issubclass(inner, Settings)):
            return []
        model = inner
    return sorted(model.model_fields)
