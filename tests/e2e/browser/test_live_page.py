"""The live page of a running system, in a real browser."""

from __future__ import annotations

import contextlib
import itertools
import re
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from loadtest.system import BenchSystem, is_settled
from loadtest.workload.load import Load, opened
from postjournal.cli.local.system import LocalSystem
from tests.e2e.browser.conftest import SCREENSHOTS, TOKEN, save_screenshot

pytestmark = pytest.mark.kafka

TIMEOUT_S = 180
ATTEMPTS = 10
"""At actions that an election makes fail: on a busy machine the leader may change at any time."""

BUSY_S = 8
"""Duration of the load before and after a failover; the curves show the last minute."""

numbers = itertools.count()


def address(system: LocalSystem, *, token: bool = True) -> str:
    return system.plan.url("coordinator") + (f"/#token={TOKEN}" if token else "/")


def visit(page: Page, system: LocalSystem, *, token: bool = True) -> None:
    """Open the page and wait until it is live."""
    page.goto(address(system, token=token))
    expect(page.locator("#link")).to_have_text("● live")


def settled(system: LocalSystem) -> str:
    """Wait until one replica leads and all others follow; return the leader's name."""
    deadline = time.monotonic() + TIMEOUT_S
    while not is_settled((status := system.status()).replicas, 1_000):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    leader = status.leader(0)
    assert leader is not None
    return leader


def send(system: LocalSystem, **command: Any) -> dict[str, Any]:
    """Send a command until it has a result, because the leader may change; return the result."""
    url = f"{system.plan.url('producer')}/api/v1/commands"
    body = {"id": uuid.uuid4().hex} | command
    deadline, wait = time.monotonic() + TIMEOUT_S, {"Prefer": "wait=10"}
    while (answer := requests.post(url, json=body, headers=wait, timeout=60)).status_code != 200:
        assert answer.status_code in (202, 503), answer.text
        assert time.monotonic() < deadline, answer.text
    result: dict[str, Any] = answer.json()
    return result


def press(button: Locator, output: Locator, text: str) -> None:
    """Press until the output contains the text: while the leader changes, requests fail."""
    for _ in range(ATTEMPTS):
        button.click()
        with contextlib.suppress(AssertionError):
            expect(output).to_contain_text(text, timeout=10_000)
            return
    expect(output).to_contain_text(text)


def takeover(page: Page, system: LocalSystem, act: Callable[[str], object]) -> tuple[str, float]:
    """Call `act` with the leader's name; return its successor and when the page showed it (s).

    Repeated when there is no takeover: then another replica had become the leader before `act`.
    """
    newest = page.locator("#failover-list tbody tr").first
    for _ in range(ATTEMPTS):
        leader = settled(system)
        before = int(newest.get_attribute("data-epoch") or 0)
        started = time.monotonic()
        act(leader)
        while time.monotonic() < started + 30:
            is_new = int(newest.get_attribute("data-epoch") or 0) > before
            successor = newest.locator("strong").first.inner_text()
            if is_new and successor in page.locator("#shard-0 h3").inner_text():
                took_s = time.monotonic() - started
                expect(newest.locator("td.number")).to_have_text(re.compile(r"^\d+ ms$"))
                return successor, took_s
    raise AssertionError("the page shows no new leader")


def test_a_failover_is_shown_while_the_page_is_open(page: Page, system: LocalSystem) -> None:
    visit(page, system)
    successor, took_s = takeover(page, system, system.kill)
    expect(page.locator("#events")).to_contain_text(f"{successor} took over from")
    save_screenshot(page, "live-failover")
    (SCREENSHOTS / "live-failover.txt").write_text(f"shown {took_s * 1000:.0f} ms after SIGKILL\n")


def test_a_button_takes_a_snapshot(page: Page, system: LocalSystem) -> None:
    settled(system)
    visit(page, system)
    button = page.get_by_role("region", name="Snapshots").get_by_role("button").first
    press(button, page.locator("#events"), "requested")
    expect(page.locator('#snapshot-list tr[data-state="done"]').first).to_be_visible()


def test_a_button_hands_over_the_leadership(page: Page, system: LocalSystem) -> None:
    settled(system)
    visit(page, system)
    takeover(page, system, lambda _: page.get_by_role("button", name="Make leader").first.click())


def test_a_button_crashes_a_replica(page: Page, system: LocalSystem) -> None:
    settled(system)
    visit(page, system)
    page.on("dialog", lambda dialog: dialog.accept())

    takeover(
        page,
        system,
        lambda leader: page.get_by_role("button", name=f"Crash {leader}").click(),
    )


def test_an_accounts_current_state_can_be_queried(page: Page, system: LocalSystem) -> None:
    settled(system)
    account = f"browser-{next(numbers)}"
    send(system, type="open", account=account)
    send(system, type="deposit", account=account, amount=70)
    visit(page, system)
    page.get_by_label("Query").fill(account)
    read = page.get_by_role("button", name="Read")
    press(read, page.locator("#query-answer"), '"balance": 70')


def test_an_accounts_past_state_can_be_queried(page: Page, system: LocalSystem) -> None:
    settled(system)
    account = f"browser-{next(numbers)}"
    send(system, type="open", account=account)
    send(system, type="deposit", account=account, amount=70)
    before = send(system, type="deposit", account=account, amount=7)["seq"] - 1
    visit(page, system)
    page.get_by_label("Query").fill(f"account={account}")
    page.get_by_label("As of").select_option("sequence")
    page.get_by_label("Point").fill(str(before))
    page.get_by_role("button", name="Read").click()
    answer = page.locator("#query-answer")
    expect(answer).to_contain_text('"balance": 70')
    expect(answer).to_contain_text(f"As of seq {before}")
    save_screenshot(page, "live-past")
    page.get_by_label("Point").fill("1000000")
    page.get_by_role("button", name="Read").click()
    expect(answer).to_contain_text("before the requested point")


def test_without_the_token_a_button_opens_the_dialog_for_it(
    page: Page, system: LocalSystem
) -> None:
    settled(system)
    visit(page, system, token=False)
    page.get_by_role("button", name="Hand over").click()
    dialog = page.get_by_role("dialog", name="Token")
    expect(dialog).to_be_visible()
    page.get_by_label("Changes to the system").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    button = page.get_by_role("button", name="Hand over")
    press(button, page.locator("#events"), "handover of shard 0 requested")


def test_the_token_is_removed_from_the_address(page: Page, system: LocalSystem) -> None:
    visit(page, system)
    assert TOKEN not in page.url


def test_the_page_works_with_the_keyboard_and_keeps_the_focus(
    page: Page, system: LocalSystem
) -> None:
    settled(system)
    visit(page, system)
    button = page.locator("#shard-0").get_by_role("button", name="Hand over")
    for _ in range(30):
        page.keyboard.press("Tab")
        if button.evaluate("button => button === document.activeElement"):
            break
    takeover(page, system, lambda _: page.keyboard.press("Enter"))
    assert button.evaluate("button => button === document.activeElement")


def test_the_page_reconnects_to_a_restarted_coordinator(page: Page, system: LocalSystem) -> None:
    visit(page, system)
    system.stop_replica("coordinator")
    expect(page.locator("#link")).to_have_text("○ reconnecting")
    system.start_replica("coordinator")
    expect(page.locator("#link")).to_have_text("● live")


def test_without_scripts_the_page_shows_the_current_state(
    browser: Browser, system: LocalSystem
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    for _ in range(ATTEMPTS):
        leader = settled(system)
        page.goto(address(system))
        shown = page.locator("#shard-0 h3").inner_text()
        if leader in shown:
            break
    assert leader in shown
    expect(page.locator("#replicas article")).to_have_count(3)
    context.close()


@pytest.fixture(scope="module")
def busy(system: LocalSystem) -> Iterator[None]:
    """For screenshots with curves: load, then a killed leader, then load again."""
    with opened(Load(BenchSystem(system, system.plan, own=False), seed=1)) as load:
        load.start(150)
        time.sleep(BUSY_S)
        system.kill(settled(system))
        time.sleep(BUSY_S)
        settled(system)
        yield
        load.stop()
        deadline = time.monotonic() + TIMEOUT_S
        while load.outstanding and time.monotonic() < deadline:
            load.drain()
        assert load.findings().ok


def serious(page: Page) -> list[str]:
    """The violations that axe finds, except for minor ones."""
    violations = Axe().run(page).response["violations"]
    return [
        f"{violation['id']}: {[node['html'] for node in violation['nodes']]}"
        for violation in violations
        if violation["impact"] in ("serious", "critical", "moderate")
    ]


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_accessible(
    browser: Browser, system: LocalSystem, theme: Any, width: int
) -> None:
    """According to axe; and on a phone nothing has to be scrolled sideways."""
    settled(system)
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    page = context.new_page()
    visit(page, system)
    page.locator("#failover-list tbody tr").first.wait_for()
    save_screenshot(
        page, f"live-{'phone' if width < 500 else 'wide'}-{theme}", full_page=width > 500
    )
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


@pytest.mark.parametrize(
    ("service", "path"),
    [("coordinator", "/docs"), ("producer", "/docs"), ("producer", "/docs/topics")],
)
def test_the_documents_are_accessible(
    page: Page, system: LocalSystem, service: str, path: str
) -> None:
    page.goto(system.plan.url(service) + path)
    assert serious(page) == []


def test_the_security_policy_forbids_other_hosts(system: LocalSystem) -> None:
    for path in ("/", "/static/live.js", "/docs", "/api/v1/events"):
        url = address(system, token=False) + path.lstrip("/")
        with requests.get(url, stream=True, timeout=60) as response:
            policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
