"""firstline as `firstline serve` runs it, from the environment alone: `python -m bench.serve`."""

from firstline.bootstrap import build
from firstline.delivery.http.server import run
from firstline.settings import load_settings

if __name__ == "__main__":
    settings = load_settings(env_file=None)
    run(settings, app=build(settings))
