"""Planted bugs: fragments of the engine, changed for the worse, that the simulation must find.

`./postjournal test --planted-bugs` plants one after the other, each in a process of its own, and
counts the seeds until an invariant is violated. No file is changed: see `planting`.

A bug is `name: (right, wrong)` or `name: (right, wrong, within)` in a table of `replica_bugs`,
`leader_bugs` or `state_bugs`; `bugs` assigns each table to a module. `right` is a fragment of that
module's code and must match in exactly one place; `within` (`function` or `Class.method`) limits
where it is searched. An empty `wrong` removes a statement: it becomes `pass`. The match is by
tokens, so formatting, comments and wrapped lines do not matter: see `fragments`.

To change code under a planted bug:

- Rename an identifier: replace the word over the whole tree, fragments included. They are plain
  text: `git grep -lw old_name | xargs sed -i 's/\\bold_name\\b/new_name/g'`.
- Move code to another module: move its bugs to the table of that module.
- Rewrite a statement: rewrite `right` and `wrong` with it, so that the bug stays the same.

`./postjournal test tests/unit/test_planted_bugs.py` checks in seconds that every bug applies;
`./postjournal test --planted-bugs NAME` shows that the simulation still finds it.
"""
