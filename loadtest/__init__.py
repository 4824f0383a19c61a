"""Everything that loads, breaks or measures a running system; not part of the wheel."""
