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
from tests.e2e.browser.conftest import PICTURES, TOKEN, keep

pytestmark = pytest.mark.kafka

PATIENCE_S = 180
ATTEMPTS = 10
"""At what an election spoils: a busy machine may change the leader at any moment."""

BUSY_S = 8
"""Of load, before and after a failover: the curves are of the last minute."""

numbers = itertools.count()


def address(system: LocalSystem, *, token: bool = True) -> str:
    return system.plan.url("coordinator") + (f"/#token={TOKEN}" if token else "/")


def visit(page: Page, system: LocalSystem, *, token: bool = True) -> None:
    """Open the page, and wait until it is live."""
    page.goto(address(system, token=token))
    expect(page.locator("#link")).to_have_text("● live")


def settled(system: LocalSystem) -> str:
    """Wait until one leads and all others follow; the leader's name."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_settled((status := system.status()).replicas, 1_000):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    leader = status.leader(0)
    assert leader is not None
    return leader


def send(system: LocalSystem, **command: Any) -> dict[str, Any]:
    """The result; asked for again while the leader changes."""
    url = f"{system.plan.url('producer')}/api/v1/commands"
    body = {"id": uuid.uuid4().hex} | command
    deadline, wait = time.monotonic() + PATIENCE_S, {"Prefer": "wait=10"}
    while (answer := requests.post(url, json=body, headers=wait, timeout=60)).status_code != 200:
        assert answer.status_code in (202, 503), answer.text
        assert time.monotonic() < deadline, answer.text
    result: dict[str, Any] = answer.json()
    return result


def press(button: Locator, answer: Locator, words: str) -> None:
    """Until it is answered so: while the leader changes it is refused."""
    for _ in range(ATTEMPTS):
        button.click()
        with contextlib.suppress(AssertionError):
            expect(answer).to_contain_text(words, timeout=10_000)
            return
    expect(answer).to_contain_text(words)


def takeover(page: Page, system: LocalSystem, act: Callable[[str], object]) -> tuple[str, float]:
    """Do something to the leader: who leads then, and after how many seconds the page says so.

    Again when nothing comes of it: then another one had come to lead a moment before.
    """
    newest = page.locator("#failover-list tbody tr").first
    for _ in range(ATTEMPTS):
        leader = settled(system)
        before = int(newest.get_attribute("data-epoch") or 0)
        began = time.monotonic()
        act(leader)
        while time.monotonic() < began + 30:
            is_new = int(newest.get_attribute("data-epoch") or 0) > before
            successor = newest.locator("strong").first.inner_text()
            if is_new and successor in page.locator("#shard-0 h3").inner_text():
                took_s = time.monotonic() - began
                expect(newest.locator("td.number")).to_have_text(re.compile(r"^\d+ ms$"))
                return successor, took_s
    raise AssertionError("the page shows no new leader")


def test_a_failover_is_seen_as_it_happens(page: Page, system: LocalSystem) -> None:
    visit(page, system)
    successor, took_s = takeover(page, system, system.kill)
    expect(page.locator("#events")).to_contain_text(f"{successor} took over from")
    keep(page, "live-failover")
    (PICTURES / "live-failover.txt").write_text(f"seen {took_s * 1000:.0f} ms after SIGKILL\n")


def test_a_snapshot_is_taken_by_a_button(page: Page, system: LocalSystem) -> None:
    settled(system)
    visit(page, system)
    button = page.get_by_role("region", name="Snapshots").get_by_role("button").first
    press(button, page.locator("#events"), "requested")
    expect(page.locator('#snapshot-list tr[data-state="done"]').first).to_be_visible()


def test_the_leadership_is_handed_over_by_a_button(page: Page, system: LocalSystem) -> None:
    settled(system)
    visit(page, system)

    takeover(
        page,
        system,
        lambda _: page.get_by_role("button", name="Make leader").first.click(),
    )


def test_a_replica_is_crashed_by_a_button(page: Page, system: LocalSystem) -> None:
    settled(system)
    visit(page, system)
    page.on("dialog", lambda dialog: dialog.accept())

    takeover(
        page,
        system,
        lambda leader: page.get_by_role("button", name=f"Crash {leader}").click(),
    )


def test_an_account_is_asked_for_as_it_is(page: Page, system: LocalSystem) -> None:
    settled(system)
    account = f"browser-{next(numbers)}"
    send(system, type="open", account=account)
    send(system, type="deposit", account=account, amount=70)
    visit(page, system)
    page.get_by_label("Query").fill(account)
    read = page.get_by_role("button", name="Read")
    press(read, page.locator("#query-answer"), '"balance": 70')


def test_an_account_is_asked_for_as_it_was(page: Page, system: LocalSystem) -> None:
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
    keep(page, "live-past")
    page.get_by_label("Point").fill("1000000")
    page.get_by_role("button", name="Read").click()
    expect(answer).to_contain_text("before the requested point")


def test_without_the_token_buttons_ask_for_it(page: Page, system: LocalSystem) -> None:
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


def test_the_token_does_not_stay_in_the_address(page: Page, system: LocalSystem) -> None:
    visit(page, system)
    assert TOKEN not in page.url


def test_the_keyboard_is_enough_and_its_place_outlives_what_changes(
    page: Page, system: LocalSystem
) -> None:
    settled(system)
    visit(page, system)
    button = page.locator("#shard-0").get_by_role("button", name="Hand over")
    for _ in range(30):
        page.keyboard.press("Tab")
        if button.evaluate("each => each === document.activeElement"):
            break
    takeover(page, system, lambda _: page.keyboard.press("Enter"))
    assert button.evaluate("each => each === document.activeElement")


def test_the_page_finds_its_way_back_to_a_coordinator_that_was_away(
    page: Page, system: LocalSystem
) -> None:
    visit(page, system)
    system.stop_replica("coordinator")
    expect(page.locator("#link")).to_have_text("○ reconnecting")
    system.start_replica("coordinator")
    expect(page.locator("#link")).to_have_text("● live")


def test_without_scripts_the_page_shows_how_things_are(
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
    """For pictures that show something: load, then a leader killed, and load again."""
    with opened(Load(BenchSystem(system, system.plan, own=False), seed=1)) as load:
        load.start(150)
        time.sleep(BUSY_S)
        system.kill(settled(system))
        time.sleep(BUSY_S)
        settled(system)
        yield
        load.stop()
        deadline = time.monotonic() + PATIENCE_S
        while load.outstanding and time.monotonic() < deadline:
            load.drain()
        assert load.findings().ok


def serious(page: Page) -> list[str]:
    """What axe finds that is worth more than a remark."""
    violations = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {[node['html'] for node in each['nodes']]}"
        for each in violations
        if each["impact"] in ("serious", "critical", "moderate")
    ]


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_for_everybody(
    browser: Browser, system: LocalSystem, theme: Any, width: int
) -> None:
    """As axe sees it; and on a phone nothing has to be scrolled sideways."""
    settled(system)
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    page = context.new_page()
    visit(page, system)
    page.locator("#failover-list tbody tr").first.wait_for()
    keep(page, f"live-{'phone' if width < 500 else 'wide'}-{theme}", whole=width > 500)
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


@pytest.mark.parametrize(
    ("service", "path"),
    [("coordinator", "/docs"), ("producer", "/docs"), ("producer", "/docs/topics")],
)
def test_the_documents_are_for_everybody(
    page: Page, system: LocalSystem, service: str, path: str
) -> None:
    page.goto(system.plan.url(service) + path)
    assert serious(page) == []


def test_the_browser_is_told_to_load_nothing_from_elsewhere(system: LocalSystem) -> None:
    for path in ("/", "/static/live.js", "/docs", "/api/v1/events"):
        with requests.get(
            address(system, token=False) + path.lstrip("/"), stream=True, timeout=60
        ) as answer:
            policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
