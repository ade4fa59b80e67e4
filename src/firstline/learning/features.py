"""Hashed n-grams of characters and words over code points.

A text becomes a list of bucket numbers, with repeats: every run of two to five characters, every word and every pair
of words. Chinese and Japanese characters are words of their own. Hashing is a polynomial over code points with a
64-bit finaliser (the constants of Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"), so
the result does not depend on Python's own hash or on the machine.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

MAX_CHARACTERS: Final = 4_000
"""Characters of a text that are read; what comes later does not change the kind of a ticket."""

CHARACTER_ORDERS: Final = (2, 3, 4, 5)

_Ids = NDArray[np.int64]
_U64 = NDArray[np.uint64]

_PRIME: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)
_PAIR: Final = np.uint64(0xD6E8FEB86659FD93)
_SHIFT: Final = np.uint64(31)
_WORD_SEED: Final = np.uint64(101)
_PAIR_SEED: Final = np.uint64(202)
_PLANE: Final = 0x10000
_SEPARATOR: Final = 0
_BLANK: Final = 32
_LAST: Final = np.uint64(_PLANE - 1)
_WORD_OFFSET: Final = np.uint64(7)
_ORDER_SEEDS: Final = [np.uint64(order) for order in range(CHARACTER_ORDERS[-1] + 1)]
_DIGITS: Final = str.maketrans("123456789", "000000000")
_ASCII_DIGITS: Final = bytes.maketrans(b"123456789", b"000000000")

_OTHER, _LETTER, _IDEOGRAPH = 0, 1, 2


def _classes() -> NDArray[np.uint8]:
    table = np.zeros(_PLANE, np.uint8)
    for code in range(_PLANE):
        character = chr(code)
        if character.isalnum():
            table[code] = _LETTER
    table[0x27] = _LETTER
    for first, last in ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF)):
        table[first : last + 1] = np.where(table[first : last + 1] > 0, _IDEOGRAPH, _OTHER)
    return table


_CLASS: Final = _classes()
_MOST: Final = 1 << 17
_POWERS: Final[_U64] = np.concatenate(
    [np.ones(1, np.uint64), np.cumprod(np.full(_MOST - 1, _PRIME, np.uint64), dtype=np.uint64)]
)
_INVERSE: Final = np.uint64(pow(int(_PRIME), -1, 1 << 64))
_INVERSES: Final[_U64] = np.concatenate(
    [np.ones(1, np.uint64), np.cumprod(np.full(_MOST - 1, _INVERSE, np.uint64), dtype=np.uint64)]
)


def clean(text: str) -> str:
    """What the model reads of a text: lower case, single spaces, at most `MAX_CHARACTERS` characters, padded."""
    words = " ".join(text[:MAX_CHARACTERS].lower().split())
    return f" {words.replace(chr(_SEPARATOR), ' ')} "


def buckets(text: str, *, bits: int) -> _Ids:
    """Bucket numbers of one text.

    Args:
        text: any text.
        bits: log2 of the number of buckets, 8 to 24.
    Returns: integers (n_features,) in [0, 2**bits); empty only for an empty text.
    """
    hashes, _ = _hashes(_codes(clean(text)), several=False)
    return _finish(np.concatenate(hashes), bits=bits)


def bucket_blocks(texts: Sequence[str], *, bits: int) -> list[tuple[_Ids, _Ids]]:
    """Bucket numbers of several texts at once.

    Args:
        texts: at most so many that they hold fewer than 2**17 characters together.
        bits: log2 of the number of buckets.
    Returns: pairs of arrays (bucket, row); within a pair the rows ascend.
    """
    codes = _codes(chr(_SEPARATOR).join(clean(text) for text in texts) + chr(_SEPARATOR))
    hashes, rows = _hashes(codes, several=True)
    return [(_finish(block, bits=bits), block_rows) for block, block_rows in zip(hashes, rows, strict=True)]


def _codes(text: str) -> _U64:
    if text.isascii():
        return np.frombuffer(text.encode("ascii").translate(_ASCII_DIGITS), np.uint8).astype(np.uint64)
    return np.frombuffer(text.translate(_DIGITS).encode("utf-32-le", "replace"), np.uint32).astype(np.uint64)


def _hashes(codes: _U64, *, several: bool) -> tuple[list[_U64], list[_Ids]]:
    """Seeded hashes by order; with `several`, n-grams across a separator are left out and rows are given."""
    size = len(codes)
    hashes: list[_U64] = []
    rows: list[_Ids] = []
    separators = codes == _SEPARATOR if several else None
    row = np.cumsum(separators) if separators is not None else None
    rolling = codes
    for order in range(2, CHARACTER_ORDERS[-1] + 1):
        if size < order:
            break
        rolling = rolling[:-1] * _PRIME + codes[order - 1 :]
        hashed = rolling
        if row is not None and separators is not None:
            inside = (row[order - 1 :] == row[: size - order + 1]) & ~separators[: size - order + 1]
            hashed = rolling[inside]
            rows.append(row[: size - order + 1][inside])
        hashes.append(hashed + _ORDER_SEEDS[order])
    kinds = _CLASS[np.minimum(codes, _LAST)]
    before, after = kinds[:-1], kinds[1:]
    edge = (before != after) | (after == _IDEOGRAPH)
    starts = (edge & (after != _OTHER)).nonzero()[0] + 1
    ends = (edge & (before != _OTHER)).nonzero()[0] + 1
    if len(starts) == 0:
        return hashes, rows
    sums = np.empty(size + 1, np.uint64)
    sums[0] = 0
    np.cumsum((codes + _WORD_OFFSET) * _POWERS[:size], out=sums[1:])
    words = (sums[ends] - sums[starts]) * _INVERSES[starts]
    hashes.append(words + _WORD_SEED)
    if row is not None:
        word_rows = row[starts]
        rows.append(word_rows)
    if len(words) > 1:
        pairs = words[:-1] * _PAIR + words[1:]
        if row is not None:
            together = word_rows[1:] == word_rows[:-1]
            pairs = pairs[together]
            rows.append(word_rows[:-1][together])
        hashes.append(pairs + _PAIR_SEED)
    return hashes, rows


def _finish(seeded: _U64, *, bits: int) -> _Ids:
    mixed = seeded * _MIX_1
    mixed ^= mixed >> _SHIFT
    mixed *= _MIX_2
    mixed >>= np.uint64(64 - bits)
    return mixed.view(np.int64)
