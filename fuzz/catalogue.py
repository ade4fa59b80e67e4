"""All targets."""

from typing import Final

from fuzz import api, bodies, connection, outbound, packs, providers, rows, stored, texts
from fuzz.target import Target

TARGETS: Final[dict[str, Target]] = {
    target.name: target
    for module in (bodies, rows, connection, texts, packs, providers, outbound, stored, api)
    for target in module.TARGETS
}
"""By name, in the order in which they are run."""
