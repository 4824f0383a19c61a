"""`python -m tests.simulation --seed 7` replays a seed; `--seeds 0..2000` runs a range of seeds.

`--planted-bugs` plants each bug of a list in the engine and runs seeds until one finds it.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.planted.hunt import report
from tests.simulation.runner import Report, run_seed, run_seeds, summary
from tests.simulation.scenario_cluster import ScenarioCluster
from tests.simulation.scenarios import SCENARIOS


def main() -> int:
    """Return 1 if an invariant does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this one and print its trace")
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), help="play it, print its trace")
    parser.add_argument("--seeds", default="0..2000", metavar="A..B", help="B is exclusive")
    parser.add_argument("--planted-bugs", nargs="*", metavar="NAME", help="by default all")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--stop-after", type=int, default=3, help="failures")
    options = parser.parse_args()
    if options.planted_bugs is not None:
        return report(options.planted_bugs, options.processes)
    if options.scenario is not None:
        return _play(options.scenario)
    if options.seed is not None:
        return _replay(options.seed)
    first, last = (int(part) for part in options.seeds.split(".."))
    return _run(range(first, last), options.processes, options.stop_after)


def _replay(seed: int) -> int:
    run = run_seed(seed, traced=True)
    sys.stdout.write("\n".join(run.lines or []) + "\n")
    if run.invariant is None:
        sys.stdout.write(f"seed {seed}: all invariants hold; trace {run.trace_hash}\n")
        return 0
    sys.stdout.write(run.failure().rsplit("\n\n", 1)[-1] + "\n")
    return 1


def _play(name: str) -> int:
    cluster = ScenarioCluster()
    try:
        SCENARIOS[name](cluster)
    finally:
        sys.stdout.write("\n".join(cluster.simulated.loop.lines or []) + "\n")
    return 0


def _run(seeds: range, processes: int, stop_after: int) -> int:
    started, reports, failures = time.monotonic(), list[Report](), 0
    for run in run_seeds(seeds, processes):
        reports.append(run)
        if run.invariant is not None:
            failures += 1
            sys.stdout.write(run.failure() + "\n" + "=" * 96 + "\n")
            if failures >= stop_after:
                break
    took_s = time.monotonic() - started
    sys.stdout.write(summary(reports) + "\n")
    sys.stdout.write(f"{failures} failures; {len(reports) / took_s:.0f} seeds/s\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
