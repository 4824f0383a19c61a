"""`python -m tests.simulation.planted NAME --seeds N`: one planted bug; prints what found it.

In a process of its own, since the engine is loaded once. Prints JSON: the number of seeds that
were needed (null: not found) and the invariant that did not hold.
"""

from __future__ import annotations

import argparse
import json
import sys

from tests.simulation.planted.bugs import BUGS
from tests.simulation.planted.planting import plant


def main() -> None:
    """Seeds from 0 on, until one fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.planted")
    parser.add_argument("name", choices=sorted(BUGS))
    parser.add_argument("--seeds", type=int, default=1_000)
    options = parser.parse_args()
    plant(BUGS[options.name])
    seeds, invariant = _hunt(options.seeds)
    sys.stdout.write(json.dumps({"seeds": seeds, "invariant": invariant}) + "\n")


def _hunt(most: int) -> tuple[int | None, str | None]:
    from tests.simulation.runner import run_seed  # only now: it loads the engine

    for seed in range(most):
        report = run_seed(seed)
        if report.invariant is not None:
            return seed + 1, report.invariant
    return None, None


if __name__ == "__main__":
    main()
