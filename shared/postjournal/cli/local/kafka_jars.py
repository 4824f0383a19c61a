"""Kafka's jars: downloaded once from Maven Central, shared by all systems of the checkout."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from postjournal.cli.errors import OperationFailed
from postjournal.cli.local.layout import DEFAULT_DIRECTORY

VERSION = "4.3.1"
LIBRARIES = DEFAULT_DIRECTORY / f"kafka-libs-{VERSION}"
POM = Path(__file__).with_name("kafka-pom.xml")


def ensure_jars(on_progress: Callable[[str], None], libraries: Path = LIBRARIES) -> Path:
    """Return the directory with the jars; download them when it is missing."""
    libraries.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{libraries}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not libraries.exists():
            _download(libraries, on_progress)
    return libraries


def _download(libraries: Path, on_progress: Callable[[str], None]) -> None:
    if shutil.which("mvn") is None:
        raise OperationFailed(
            "Maven (mvn) is needed once, to download Kafka: install it, or use Docker"
        )
    on_progress(f"downloading Kafka {VERSION} from Maven Central")
    target = Path(tempfile.mkdtemp(prefix=f"{libraries.name}.", dir=libraries.parent))
    try:
        _run_maven(target, on_progress)
        target.chmod(0o755)
        target.rename(libraries)
    finally:
        shutil.rmtree(target, ignore_errors=True)


def _run_maven(target: Path, on_progress: Callable[[str], None]) -> None:
    command = [
        *("mvn", "-B", "-f", str(POM), "dependency:copy-dependencies"),
        *("-DincludeScope=runtime", f"-DoutputDirectory={target}"),
    ]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as maven:
        errors = _follow(maven, on_progress)
    if maven.returncode != 0:
        raise OperationFailed(f"downloading Kafka failed:\n{''.join(errors[:5])}".rstrip())


def _follow(maven: subprocess.Popen[str], on_progress: Callable[[str], None]) -> list[str]:
    """Report each finished download; return the error lines."""
    assert maven.stdout is not None
    jars, errors = 0, []
    for line in maven.stdout:
        if "Downloaded from" in line and ".jar" in line:
            jars += 1
            on_progress(f"downloading Kafka {VERSION} from Maven Central: {jars} jars")
        elif line.startswith("[ERROR]"):
            errors.append(line)
    return errors
