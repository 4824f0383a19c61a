"""The commands of the documents, run as they are written in a fresh clone of the commit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from postjournal.cli.local.layout import DEFAULT_DIRECTORY
from postjournal.cli.local.ports import is_free
from tests.support.documents import ROOT, blocks

pytestmark = pytest.mark.kafka

NAMED_PORTS = (8080, 8085, 9092)
OUTPUT = DEFAULT_DIRECTORY / "documents"
"""The output of the commands, kept with the other files of the tests."""

BLOCK_S, START_S = 600, 600

TOUR = {
    "tour-3": '"id":"tour-3"',
    "Idempotency-Key: tour-4": '"bob":250',
    "accounts/bob": '"balance":250',
    "kill leader": "took over from",
    "--until-seq 2": '"balance":0',
}
"""Part of a block of the README → text that its output contains."""


class Clone:
    """A fresh clone; its commands run without a Docker engine and without our variables."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        subprocess.run(["git", "clone", "-q", str(ROOT), str(directory)], check=True)
        ours = ("POSTJOURNAL_", "VIRTUAL_ENV", "PYTHON", "PYTEST_", "GIT_")
        inherited = {key: text for key, text in os.environ.items() if not key.startswith(ours)}
        self.environment = inherited | {"DOCKER_HOST": "unix:///nowhere.sock", "TERM": "dumb"}
        OUTPUT.mkdir(parents=True, exist_ok=True)

    def document(self, name: str) -> Path:
        return self.directory / name

    def run(self, block: str, document: str, timeout_s: float = BLOCK_S) -> str:
        """Run a block and return its output; fails unless each of its commands succeeds."""
        began = time.monotonic()
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        with (OUTPUT / f"{Path(document).stem}.txt").open("a") as file:
            seconds = time.monotonic() - began
            file.write(f"$ {block}{done.stdout}[{done.returncode}, {seconds:.1f} s]\n\n")
        assert done.returncode == 0, f"{block}\n{done.stdout}"
        return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is not a git repository, so it cannot be cloned")
    in_use = [port for port in NAMED_PORTS if not is_free(port)]
    if in_use:
        pytest.skip(f"port {in_use[0]}, which the documents name, is in use on this machine")
    shutil.rmtree(OUTPUT, ignore_errors=True)
    fresh = Clone(tmp_path_factory.mktemp("fresh") / "postjournal")
    try:
        yield fresh
    finally:
        fresh.run("./postjournal down --wipe\n", "end")


def test_up_runs_until_it_is_interrupted(clone: Clone) -> None:
    """The first of the README's two commands; the second is the one that runs this test."""
    first = blocks(clone.document("README.md"), "sh")[0]
    assert first.splitlines() == ["./postjournal up", "./postjournal test"]
    output = OUTPUT / "up.txt"
    with output.open("w") as file:
        up = subprocess.Popen(
            ["env", "--default-signal=INT", "./postjournal", "up"],  # as in a terminal
            cwd=clone.directory,
            env=clone.environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    deadline = time.monotonic() + START_S
    while "Ctrl-C stops everything." not in output.read_text():
        assert up.poll() is None, output.read_text()
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.1)
    up.send_signal(signal.SIGINT)
    assert up.wait(180) == 0
    assert output.read_text().endswith("stopped\n")


def test_the_tour_of_the_readme_works_to_its_end(clone: Clone) -> None:
    seen: set[str] = set()
    for block in blocks(clone.document("README.md"), "sh")[1:]:
        printed = clone.run(block, "README.md", START_S)
        for part, promise in TOUR.items():
            if part in block:
                assert promise in printed, printed
                seen.add(part)
        if "Idempotency-Key: tour-4" in block:
            again = clone.run(block[block.rindex("curl") :], "README.md")
            assert '"replayed":true' in again
            assert '"bob":250' in again
    assert seen == set(TOUR)


@pytest.mark.parametrize("name", ["operations", "consumers", "applications"])
def test_the_commands_of_a_document_work(clone: Clone, name: str) -> None:
    document = f"docs/{name}.md"
    for block in blocks(clone.document(document), "sh"):
        clone.run(block, document, START_S)
    if name == "consumers":
        check_python_consumer(clone, blocks(clone.document(document), "python")[0])
    clone.run("./postjournal down --wipe\n", document)


def check_python_consumer(clone: Clone, code: str) -> None:
    """It prints each output, indefinitely."""
    process = subprocess.Popen(
        ["timeout", "300", clone.directory / ".venv/bin/python", "-u", "-c", code],
        cwd=clone.directory,
        env=clone.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    process.terminate()
    process.wait(60)
    assert first.startswith("0 b'{")
    assert "carol" in first
