"""Runs the engine with one of its lines changed, in this process only and in no file.

Imports nothing of the engine: a module that is loaded already cannot be changed any more.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType


class DoesNotApply(Exception):
    """The line to be changed does not stand in the source exactly once."""


@dataclass(frozen=True)
class Bug:
    """In the source of `module`, `right` becomes `wrong`."""

    module: str
    right: str
    wrong: str

    def planted(self) -> str:
        """The source with the bug. Raises `DoesNotApply`."""
        source = self.path.read_text(encoding="utf-8")
        found = source.count(self.right)
        if found != 1 or self.right == self.wrong:
            raise DoesNotApply(f"{self.module} has {self.right!r} {found} times, not once")
        return source.replace(self.right, self.wrong)

    @property
    def path(self) -> Path:
        """Where the source is."""
        spec = importlib.util.find_spec(self.module)
        assert spec is not None
        assert spec.origin is not None
        return Path(spec.origin)


class _Loader(SourceFileLoader):
    """Compiles what it is given, whatever is in the file and in the cache of byte code."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        super().__init__(name, str(path))
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        """See `importlib.abc.InspectLoader`."""
        del fullname
        return compile(self._source, self.path, "exec", dont_inherit=True)


def plant(bug: Bug) -> None:
    """From now on this process has the bug. Raises `DoesNotApply`."""
    assert bug.module not in sys.modules, f"{bug.module} is loaded already"
    loader = _Loader(bug.module, bug.path, bug.planted())
    spec = importlib.util.spec_from_loader(bug.module, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[bug.module] = module
    loader.exec_module(module)
    package, _, name = bug.module.rpartition(".")
    setattr(sys.modules[package], name, module)
