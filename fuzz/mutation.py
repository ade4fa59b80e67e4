"""Pseudo-random changes of seeds: what a test can afford, and what finds the plain mistakes without atheris."""

from collections.abc import Iterator
from random import Random

from fuzz.target import Target


def changed(target: Target, *, times: int, seed: int) -> Iterator[bytes]:
    """Changes of a target's seeds, always the same ones for the same numbers."""
    draw = Random(seed)
    seeds = list(target.seeds())
    for _ in range(times):
        data = bytearray(draw.choice(seeds))
        for _ in range(draw.randint(1, 4)):
            _change(data, draw, seeds, target.words)
        yield bytes(data[: target.most_bytes])


def _change(data: bytearray, draw: Random, seeds: list[bytes], words: tuple[str, ...]) -> None:
    place = draw.randrange(len(data) + 1)
    match draw.randrange(7):
        case 0:
            data[place : place + draw.randint(1, 8)] = b""
        case 1:
            data[place:place] = draw.randbytes(draw.randint(1, 4))
        case 2 if data:
            data[min(place, len(data) - 1)] = draw.choice((0, 0x0A, 0x22, 0x7F, 0x80, 0xFF, draw.randrange(256)))
        case 3 if words:
            data[place:place] = draw.choice(words).encode("utf-8", "surrogatepass")
        case 4:
            end = place + draw.randint(1, 64)
            data[place:place] = data[place:end] * draw.randint(1, 8)
        case 5:
            other = draw.choice(seeds)
            data[place:] = other[draw.randrange(len(other) + 1) :]
        case _:
            del data[place:]
