"""Random subsets of N keys, as the budget curves of Bellver et al. 2019 need them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from wsseg.errors import UsageError

#: Strong images N of section 4; the last is VOC's whole train list.
PAPER = (100, 200, 400, 800, 1464)
#: Weak images M of section 5: 10, 25, 50, 75 and 100 % of SBD's 9118, cut off. The paper prints
#: 4459 for 50 %, but half of 9118 is 4559.
PAPER_WEAK = (912, 2279, 4559, 6838, 9118)
PAPER_RUNS = 5


def draw(seed: int | str, key: str) -> int:
    """Return a number in [0, 2**60) that depends on seed and key alone.

    It is what ``ws-weaken --count N --subset-seed SEED`` ranks records by, so that both choose
    the same ones.
    """
    return int(hashlib.sha256(f"{seed}\0{key}".encode()).hexdigest()[:15], 16)


def subset(keys: Sequence[str], number: int, seed: int, *, nested: bool = True) -> list[str]:
    """Return ``number`` of the keys, in their order.

    nested: a larger subset of the same seed contains a smaller one; otherwise each number has
    a draw of its own. Neither the order of the keys nor other subsets change what is chosen.
    Raises UsageError for more than there are.
    """
    if not 0 <= number <= len(keys):
        raise UsageError(f"a subset of {number}: there are only {len(keys)} keys")
    salt = seed if nested else f"{seed}/{number}"
    chosen = set(sorted(keys, key=lambda key: (draw(salt, key), key))[:number])
    return [key for key in keys if key in chosen]
