"""firstline as `firstline serve` runs it, from the environment alone: `python -m bench.serve`."""

import uvicorn

from firstline.settings import load_settings

if __name__ == "__main__":
    settings = load_settings(env_file=None)
    uvicorn.run(
        "firstline.asgi:app", host=settings.host, port=settings.port, log_level="error", access_log=False
    )
