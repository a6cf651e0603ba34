"""How long until it is there. TenSEAL: the library."""

from importlib.metadata import version

from benchmarks.contestants.starting import imports
from benchmarks.stage import serve

if __name__ == "__main__":
    serve({"import": imports("import tenseal")}, lambda: {"tenseal": version("tenseal")})
