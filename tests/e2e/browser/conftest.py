"""A real Chromium, driven by Playwright, and a system with the live page."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from postjournal.cli.local.layout import DEFAULT_DIRECTORY
from postjournal.cli.local.system import LocalSystem

TOKEN = "token-of-the-browser-tests"
PICTURES = DEFAULT_DIRECTORY / "pictures"
INSTALL_S = 240
PATIENCE_MS = 120_000
expect.set_options(timeout=PATIENCE_MS)
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
"""As root in a container; and Chromium itself is to look nothing up."""


def find_chromium() -> str | None:
    """Where it is; installed first where that can be done without asking anybody."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        with contextlib.suppress(subprocess.TimeoutExpired):
            apt_get("update", "-q")
            apt_get("install", "-qy", "--no-install-recommends", "chromium")
        found = shutil.which("chromium")
    return found


def apt_get(*arguments: str) -> None:
    """Whether it worked is seen by what is there afterwards."""
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", *arguments]
    subprocess.run(command, env=quiet, check=False, capture_output=True, timeout=INSTALL_S)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    executable = find_chromium()
    if executable is None:
        pytest.skip("there is no Chromium: install the package `chromium`")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        yield started
        started.close()


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSystem]:
    environment = {"POSTJOURNAL_API_TOKEN": TOKEN, "POSTJOURNAL_ALLOW_CRASH": "1"}
    local = LocalSystem(tmp_path_factory.mktemp("system"), environment=environment)
    local.start(replicas=3)
    try:
        yield local
    finally:
        local.stop()
        local.delete_data()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Fails the test when the page had an error, or asked anything of another host."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    asked: set[str] = set()
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("request", lambda request: asked.add(request.url))
    yield opened
    context.close()
    assert not errors
    elsewhere = [url for url in asked if not url.startswith(("http://127.0.0.1:", "data:"))]
    assert not elsewhere


def keep(page: Page, name: str, *, whole: bool = True) -> None:
    """A picture among the artefacts of the tests: of the whole page, or of what is in sight."""
    Path(PICTURES).mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png", full_page=whole)
