"""Creates the virtual environment. `./postjournal` runs it without installed packages."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = {"run": "requirements.txt", "dev": "requirements-dev.txt"}


def main() -> None:
    """Create ROOT/.venv unless it is current. Usage: `bootstrap.py ROOT CHECKSUM run|dev`."""
    root, stamp = Path(sys.argv[1]), f"{sys.argv[2]} {sys.argv[3]}"
    state = root / ".postjournal"
    state.mkdir(exist_ok=True)
    with (state / "venv.lock").open("w") as lock:
        # Of two launchers that run at once, the second finds a current environment.
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp_file = root / ".venv" / "postjournal-stamp"
        if not _is_current(stamp_file, stamp):
            _install(root, REQUIREMENTS[sys.argv[3]])
            stamp_file.write_text(f"{stamp}\n")


def _is_current(stamp_file: Path, stamp: str) -> bool:
    return (
        stamp_file.exists()
        and stamp_file.read_text().strip() == stamp
        and (stamp_file.parent / "bin" / "python").exists()
    )


def _install(root: Path, requirements: str) -> None:
    environment = root / ".venv"
    _report("creating .venv (takes about a minute, once)")
    _run(root, sys.executable, "-m", "venv", str(environment))
    pip = (str(environment / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "-q")
    _report(f"installing {requirements}")
    _run(root, *pip, "install", "-r", requirements)
    _report("installing postjournal")
    _run(root, *pip, "install", "--no-deps", "-e", ".")


def _run(root: Path, *command: str) -> None:
    """stdout belongs to the command that the launcher runs next."""
    done = subprocess.run(command, cwd=root, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        sys.exit(f"postjournal: command failed: {' '.join(command)}")


def _report(text: str) -> None:
    print(f"postjournal: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
