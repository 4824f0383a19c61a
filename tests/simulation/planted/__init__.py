"""Bugs that the simulation must find: each a line of the engine, changed for the worse.

`./postjournal test --planted-bugs` plants one after the other and counts the seeds until an
invariant does not hold. Nothing in the tree is changed: see `planting`.
"""
