"""`python -m tests.simulation.planted NAME --seeds N` runs seeds with one planted bug.

It runs in a process of its own, since the engine is loaded only once per process. It prints JSON:
the number of seeds until one failed (null: none did) and the invariant that was violated.
"""

from __future__ import annotations

import argparse
import json
import sys

from tests.simulation.planted.bugs import BUGS
from tests.simulation.planted.planting import plant


def main() -> None:
    """Run seeds from 0 on until one fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.planted")
    parser.add_argument("name", choices=sorted(BUGS))
    parser.add_argument("--seeds", type=int, default=1_000)
    options = parser.parse_args()
    plant(BUGS[options.name])
    seeds, invariant = _hunt(options.seeds)
    sys.stdout.write(json.dumps({"seeds": seeds, "invariant": invariant}) + "\n")


def _hunt(max_seeds: int) -> tuple[int | None, str | None]:
    from tests.simulation.runner import run_seed  # loads the engine: only after the bug is planted

    for seed in range(max_seeds):
        report = run_seed(seed)
        if report.invariant is not None:
            return seed + 1, report.invariant
    return None, None


if __name__ == "__main__":
    main()
