"""How long until it is there. Flower: what a client app imports."""

from importlib.metadata import version

from benchmarks.contestants.starting import imports
from benchmarks.stage import serve

if __name__ == "__main__":
    serve({"import": imports("import flwr.client, flwr.clientapp, flwr.client.mod")}, lambda: {"flwr": version("flwr")})
