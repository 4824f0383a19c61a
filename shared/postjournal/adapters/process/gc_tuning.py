"""Python's cyclic garbage collector, in processes in which a pause is seen."""

from __future__ import annotations

import gc


def reduce_gc_frequency() -> None:
    """Leave what exists now out of every collection, and collect seldom.

    Modules and the like are some 200,000 objects; a full collection of them stops all threads
    for 50-80 ms. To be called when a process has started. What the engine makes afterwards has
    no cycles (msgspec structs with gc=False, bytes, tuples): there is next to nothing to find.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
