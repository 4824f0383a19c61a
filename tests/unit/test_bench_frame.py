"""What the frame does with a bench's report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner, Result

from loadtest.bench import frame
from loadtest.bench.frame import BenchReport, BenchRun, bench_frame
from loadtest.system import BenchSystem
from postjournal.cli.local.system import LocalSystem
from tests.support.plan import PLAN


class ExampleReport(BenchReport, frozen=True, kw_only=True, tag="example"):
    figure: int
    problems: list[str]

    def tables(self) -> Sequence[str]:
        return [f"figure {self.figure}"]

    def verdict(self) -> list[str]:
        return ["checked"]

    def failures(self) -> list[str]:
        return self.problems


@click.command("example")
@click.option("--figure", type=int, default=1)
@click.option("--problem", "problems", multiple=True)
@bench_frame(attachable=True)
def example(run: BenchRun, *, figure: int, problems: tuple[str, ...]) -> ExampleReport:
    run.start_storage(replicas=2)
    return ExampleReport(machine=run.machine, figure=figure, problems=[*problems])


@pytest.fixture
def systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[BenchSystem]:
    """The systems that a bench starts, without processes."""
    found: list[BenchSystem] = []

    @contextmanager
    def own_system(replicas: int, shards: int, *, launch: bool) -> Iterator[BenchSystem]:
        assert (replicas, shards, launch) == (2, 1, False)
        found.append(BenchSystem(LocalSystem(tmp_path), PLAN, own=True))
        yield found[-1]

    monkeypatch.setattr(frame, "own_system", own_system)
    return found


def run_example(*arguments: str) -> Result:
    return CliRunner().invoke(example, arguments)


def test_a_report_is_written_as_json_and_printed_as_tables(
    tmp_path: Path, systems: list[BenchSystem]
) -> None:
    output = tmp_path / "report.json"
    result = run_example("--figure", "7", "--output", str(output))
    assert (result.exit_code, result.stdout.splitlines()[:2]) == (0, ["figure 7", "checked"])
    written = msgspec.json.decode(output.read_bytes())
    assert (written["bench"], written["figure"], written["machine"]["cpus"] > 0) == (
        "example",
        7,
        True,
    )
    assert [system.keep for system in systems] == [False]


def test_json_on_stdout_is_the_report_alone(tmp_path: Path, systems: list[BenchSystem]) -> None:
    result = run_example("--json", "--output", str(tmp_path / "report.json"))
    assert result.stdout == (tmp_path / "report.json").read_text()
    assert len(systems) == 1


def test_a_failure_is_exit_code_1_and_keeps_the_data(
    tmp_path: Path, systems: list[BenchSystem]
) -> None:
    result = run_example("--problem", "lost", "--output", str(tmp_path / "report.json"))
    assert result.exit_code == 1
    assert [system.keep for system in systems] == [True]


def test_the_options_of_all_benches_come_after_the_benchs_own() -> None:
    names = [parameter.opts[0] for parameter in example.params]
    common = ["--seed", "--replicas", "--attach", "--json", "--output"]
    assert names == ["--figure", "--problem", *common]
