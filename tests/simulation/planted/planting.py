"""Runs the engine with one fragment of its code changed, in this process only and in no file.

It imports nothing from the engine: a module that is already loaded cannot be changed.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import TypeAlias

from tests.simulation.planted.fragments import FragmentError, replace

Change: TypeAlias = tuple[str, str] | tuple[str, str, str]
"""`(right, wrong)` or `(right, wrong, within)`."""


class DoesNotApply(Exception):
    """The fragment to be changed is not in the source exactly once."""


@dataclass(frozen=True)
class Bug:
    """In the source of `module`, `right` becomes `wrong`; see `fragments.replace`."""

    module: str
    right: str
    wrong: str
    within: str | None = None

    def planted(self) -> str:
        """The source with the bug. Raises `DoesNotApply`."""
        return self.planted_in(self.path.read_text(encoding="utf-8"))

    def planted_in(self, source: str) -> str:
        """Plant the bug in any source of the module. Raises `DoesNotApply`."""
        try:
            return replace(source, self.right, self.wrong, self.within)
        except FragmentError as error:
            raise DoesNotApply(f"{self.module}: {error}") from error

    @property
    def path(self) -> Path:
        """The file of the module."""
        spec = importlib.util.find_spec(self.module)
        assert spec is not None
        assert spec.origin is not None
        return Path(spec.origin)


class _Loader(SourceFileLoader):
    """Compiles the source it is given instead of the file or the cached byte code."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        super().__init__(name, str(path))
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        del fullname
        return compile(self._source, self.path, "exec", dont_inherit=True)


def plant(bug: Bug) -> None:
    """Load the module with the bug into this process. Raises `DoesNotApply`."""
    assert bug.module not in sys.modules, f"{bug.module} is loaded already"
    loader = _Loader(bug.module, bug.path, bug.planted())
    spec = importlib.util.spec_from_loader(bug.module, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[bug.module] = module
    loader.exec_module(module)
    package, _, name = bug.module.rpartition(".")
    setattr(sys.modules[package], name, module)
