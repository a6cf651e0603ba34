"""How long until it is there. NVFlare: its HE encryptor and its client."""

from importlib.metadata import version

from benchmarks.contestants.starting import imports
from benchmarks.stage import serve

if __name__ == "__main__":
    serve(
        {"import": imports("import nvflare.app_opt.he.model_encryptor, nvflare.private.fed.client.fed_client")},
        lambda: {"nvflare": version("nvflare")},
    )
