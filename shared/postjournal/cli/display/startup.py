"""Progress of a start: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from postjournal.cli.local.readiness import StartupStep


class StartupDisplay:
    """A context manager that shows each `StartupStep` it is called with.

    `console`: by default stderr, because stdout is for output that programs read.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._components: dict[str, StartupStep] = {}
        self._printed: set[tuple[str, str]] = set()
        self._live = Live(console=self._console, get_renderable=self._render, refresh_per_second=8)

    def __enter__(self) -> StartupDisplay:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def __call__(self, step: StartupStep) -> None:
        if not step.component:
            self._console.print(step.text, soft_wrap=True)
        elif self._console.is_terminal:
            self._components[step.component] = step
        else:
            self._print_once(step)

    def _print_once(self, step: StartupStep) -> None:
        """Print one line for each kind of step: what follows a colon is a count that grows."""
        text = step.text.partition(":")[0]
        if (step.component, text) not in self._printed:
            self._printed.add((step.component, text))
            self._console.print(f"{step.component}: {text}", soft_wrap=True)

    def _render(self) -> RenderableType:
        return Group(*(_line(step) for step in self._components.values()))


def _line(step: StartupStep) -> RenderableType:
    text = f"{step.component:<18} {step.text}"
    return Text(f"✔ {text}", style="green") if step.ready else Spinner("dots", text)
