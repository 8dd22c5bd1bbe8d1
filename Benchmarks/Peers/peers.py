"""What the peers have in common.

A peer sets a case up in every way that it offers and runs it. `offers(case)` says why it cannot, or None.
`variants(case, inputs)` yields a `Variant` for each way. Whatever is done only once per model (copies into
the layout that a peer likes, compilation, room for the output) is done before `run`.
"""

from dataclasses import dataclass
from typing import Callable

# A variant that writes all scores to memory is left out beyond so many bytes of them: it is far behind there.
LARGEST_SCORES = 3e8


@dataclass
class Variant:
    name: str
    # Computes once.
    run: Callable
    # What was computed last, `{out}` or `{dq, dk, dv}`, as float32 arrays.
    result: Callable
    # Called before each turn, not timed.
    restart: Callable = lambda: None


def by_key_head(case, q):
    """`[B,H,1,D]` as `[B,Hkv,H/Hkv,D]`: the queries that share a key head as rows of one problem."""
    return q.reshape(case.B, case.Hkv, case.H // case.Hkv, case.D)
