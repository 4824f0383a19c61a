"""Chromium, driven by Playwright, and a running system with the live page."""

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
SCREENSHOTS = DEFAULT_DIRECTORY / "pictures"
INSTALL_TIMEOUT_S = 240
TIMEOUT_MS = 120_000
"""For an expectation: an election on a busy machine may come in between."""

expect.set_options(timeout=TIMEOUT_MS)
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
"""For root in a container, and so that Chromium itself sends no requests."""


def find_chromium() -> str | None:
    """The path of Chromium, or None. As root with apt-get, install it if it is missing."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None and os.geteuid() == 0 and shutil.which("apt-get"):
        with contextlib.suppress(subprocess.TimeoutExpired):
            apt_get("update", "-q")
            apt_get("install", "-qy", "--no-install-recommends", "chromium")
        path = shutil.which("chromium")
    return path


def apt_get(*arguments: str) -> None:
    """Run apt-get; the caller checks the result by what is installed afterwards."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", *arguments]
    subprocess.run(
        command, env=environment, check=False, capture_output=True, timeout=INSTALL_TIMEOUT_S
    )


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    executable = find_chromium()
    if executable is None:
        pytest.skip("Chromium is not installed: install the package `chromium`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        yield browser
        browser.close()


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
    """A page; the test fails if the page has an error or sends a request to another host."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    errors: list[str] = []
    urls: set[str] = set()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: urls.add(request.url))
    yield page
    context.close()
    assert not errors
    other_hosts = [url for url in urls if not url.startswith(("http://127.0.0.1:", "data:"))]
    assert not other_hosts


def save_screenshot(page: Page, name: str, *, full_page: bool = True) -> None:
    """Save a screenshot of the whole page, or of its visible part, among the tests' artifacts."""
    Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=full_page)
