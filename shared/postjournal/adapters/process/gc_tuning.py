"""Python's cyclic garbage collector, in processes whose pauses delay commands."""

from __future__ import annotations

import gc


def reduce_gc_frequency() -> None:
    """Exclude all present objects from collections, and collect rarely.

    Modules and the like are some 200,000 objects; a full collection of them stops all threads
    for 50-80 ms. Call it once a process has started: what the engine makes afterwards has no
    cycles (msgspec structs with gc=False, bytes, tuples), so that there is little to collect.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
