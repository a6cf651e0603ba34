"""Generate the wire's Python stubs from ``proto/``, or check that the checked-in ones are up to date.

``make proto`` runs it without arguments, ``make lint`` with ``--check``. The stubs are never edited by hand.
"""

import argparse
import importlib.resources
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path("secagg/wire/v1")
PACKAGE_DOCSTRINGS = {
    PACKAGE.parent: '"""Generated from ``proto/``: never edited; ``make proto`` writes it."""\n',
    PACKAGE: '"""Version 1 of the wire: generated; read ``proto/secagg/wire/v1`` instead."""\n',
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns 1 when ``--check`` finds a difference or the compiler refuses the sources."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the stubs are out of date")
    parser.add_argument("--root", type=Path, default=ROOT, help="the tree that holds proto/ and secagg/wire/")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="wire-") as folder:
        try:
            wanted = generate(options.root / "proto", Path(folder))
        except ValueError as error:
            print(error, file=sys.stderr)
            return 1
    if options.check:
        return check(options.root, wanted)
    write(options.root, wanted)
    return 0


def generate(source: Path, output: Path) -> dict[Path, bytes]:
    """Compile every ``.proto`` of the package. Returns the content by path relative to the tree's root.

    Raises ValueError when there is nothing to compile, or the compiler refuses it (it has said why on stderr).
    """
    protos = sorted((source / PACKAGE).glob("*.proto"))
    if not protos:
        raise ValueError(f"no .proto file under {source / PACKAGE}")
    if protoc.main(_command(source, output, protos)) != 0:
        raise ValueError("protoc refused the sources: see above")
    content = {path.relative_to(output): path.read_bytes() for path in sorted(output.rglob("*.py*"))}
    for path in [path for path in content if path.name.endswith("_pb2_grpc.py")]:
        # The plugin writes a file for every source; one without a service would only import.
        if b"\nclass " not in content[path]:
            content.pop(path)
            content.pop(path.with_suffix(".pyi"), None)
    return content | {folder / "__init__.py": text.encode() for folder, text in PACKAGE_DOCSTRINGS.items()}


def _command(source: Path, output: Path, protos: list[Path]) -> list[str]:
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    scripts = Path(sys.executable).parent
    return [
        "protoc",
        f"--proto_path={source}",
        f"--proto_path={well_known}",
        *(f"--plugin={scripts / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")),
        *(f"--{name}_out={output}" for name in ("python", "grpc_python")),
        # Quiet: the plugins list every file they write.
        *(f"--{name}_out=quiet:{output}" for name in ("mypy", "mypy_grpc")),
        *map(str, protos),
    ]


def existing(root: Path) -> dict[Path, bytes]:
    """Return the checked-in stubs by path relative to the tree's root; compiled Python is left out."""
    found = (root / PACKAGE.parent).rglob("*")
    return {path.relative_to(root): path.read_bytes() for path in found if path.suffix in {".py", ".pyi"}}


def check(root: Path, wanted: dict[Path, bytes]) -> int:
    """Print the name of every stub that is missing, stale or different. Returns 1 if there is one, else 0."""
    present = existing(root)
    differing = [path for path in sorted(wanted.keys() | present.keys()) if wanted.get(path) != present.get(path)]
    for path in differing:
        reason = "missing" if path not in present else "stale" if path not in wanted else "out of date"
        print(f"{path}: {reason}; run `make proto`", file=sys.stderr)
    return 1 if differing else 0


def write(root: Path, wanted: dict[Path, bytes]) -> None:
    """Make the stubs under ``root`` exactly the wanted ones. A file that is right already keeps its time."""
    present = existing(root)
    for path in present.keys() - wanted.keys():
        (root / path).unlink()
    for path, content in wanted.items():
        if present.get(path) != content:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)


if __name__ == "__main__":
    sys.exit(main())
