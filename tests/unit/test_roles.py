"""The roles of a replica and the transitions between them."""

from __future__ import annotations

import re
from itertools import product

import pytest

from postjournal.core import replica
from postjournal.core.roles import TRANSITIONS, Role, check_transition

LINE = re.compile(r"^    (\w+) +-> (\w+)", re.MULTILINE)
"""A transition in the docstring of `core/replica.py`."""


def documented() -> set[tuple[Role, Role]]:
    assert replica.__doc__ is not None
    found: set[tuple[Role, Role]] = set()
    for old, new in LINE.findall(replica.__doc__):
        sources = [role for role in Role if not role.is_final] if old == "any" else [Role(old)]
        found |= {(source, Role(new)) for source in sources}
    return found


def test_the_table_is_what_the_docstring_of_the_replica_lists() -> None:
    assert {(old, new) for old, targets in TRANSITIONS.items() for new in targets} == documented()


def test_every_role_is_in_the_table_and_final_ones_have_no_successor() -> None:
    assert set(TRANSITIONS) == set(Role)
    assert {role for role, targets in TRANSITIONS.items() if not targets} == {
        role for role in Role if role.is_final
    }


@pytest.mark.parametrize(("old", "new"), product(Role, Role))
def test_only_transitions_of_the_table_are_taken(old: Role, new: Role) -> None:
    if new is old or new in TRANSITIONS[old]:
        assert check_transition(old, new) is new
    else:
        with pytest.raises(AssertionError, match=f"no transition from {old} to {new}"):
            check_transition(old, new)
