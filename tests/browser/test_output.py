"""<notifications-output>: appends what a job writes, where its reader is."""

import contextlib
import re

import pytest
from playwright.sync_api import expect

from tests.browser.parts import create_report, visit, wait_until_live
from tests.support.axe import find_violations
from tests.support.browser import sign_in
from tests.support.driver import driver
from tests.support.layout_shift import MAX_SHIFT, read_shifts, record_shifts
from tests.support.network import Proxy, shut_down

pytestmark = [pytest.mark.browser, pytest.mark.nightly_names("*[1280]")]

MARK_FIRST_NODE = "(box) => { box.firstChild.isMarked = true; }"
IS_FIRST_NODE_KEPT = "(box) => box.firstChild.isMarked === true"
NOTIFY = """
from django.contrib.auth import get_user_model
from django.db import transaction
from notifications.api import notify
from notifications.models import Notification
with transaction.atomic():
    notify(get_user_model().objects.get(username="demo"), "Written")
    Notification.objects.update(job="{job}")
"""
LINES = "".join(f"Line {number}\n" for number in range(200))


@pytest.fixture
def writer(site):
    """A site without a worker, and a process that writes."""
    site.environment["EMBEDDED_WORKER"] = "0"
    site.start_web()
    with driver(site, "tests.browser.output_actions") as writer:
        yield writer


def open_job(page, site, job):
    visit(page, site.url, f"/notifications/jobs/{job}/")
    wait_until_live(page)
    return page.locator("notifications-output pre")


def text_of(box):
    return box.evaluate("(box) => box.textContent")


@pytest.mark.smoke
def test_text_is_appended_as_it_is_written(site, writer, page):
    """After what the server has rendered, in nodes of their own; nothing is shown before there is text."""
    job = writer.call("start_job")
    box = open_job(page, site, job)
    expect(box).to_be_hidden()
    writer.call("write", id=job, text="First <b>line</b>\n")
    expect(box).to_contain_text("First <b>line</b>")
    box.evaluate(MARK_FIRST_NODE)
    for number in range(5):
        writer.call("write", id=job, text=f" {number} é\n\n")
        expect(box).to_contain_text(f"{number} é")
    assert box.evaluate(IS_FIRST_NODE_KEPT)
    page.reload()
    wait_until_live(page)
    writer.call("write", id=job, text="Last")
    expect(box).to_contain_text("Last")
    lines = "".join(f" {number} é\n\n" for number in range(5))
    assert text_of(box) == f"First <b>line</b>\n{lines}Last"


@pytest.mark.nightly
def test_the_scroll_stays_where_the_reader_put_it(site, writer, page):
    """At the end it follows; anywhere else it stays, also when the page is loaded again, and in the reading pane."""
    job = writer.call("start_job")
    writer.call("write", id=job, text=LINES)
    box = open_job(page, site, job)
    from_end = "(box) => box.scrollHeight - box.clientHeight - box.scrollTop"
    assert box.evaluate(from_end) < 2
    writer.call("write", id=job, text=f"followed\n{LINES}")
    expect(box).to_contain_text("followed")
    assert box.evaluate(from_end) < 2
    page.goto(f"{site.url}/reports/")
    writer.call("write", id=job, text=LINES)
    page.go_back()
    writer.call("write", id=job, text=f"followed again\n{LINES}")
    expect(box).to_contain_text("followed again")
    assert box.evaluate(from_end) < 2
    box.evaluate("(box) => { box.scrollTop = 300; }")
    writer.call("write", id=job, text=f"not followed\n{LINES}")
    expect(box).to_contain_text("not followed")
    assert box.evaluate("(box) => box.scrollTop") == 300
    site.python(NOTIFY.format(job=job))
    inbox = page.context.new_page()
    inbox.goto(f"{site.url}/notifications/")
    pane = inbox.get_by_role("region", name="Reading pane")
    pane.locator("pre").evaluate("(box) => { box.scrollTop = 300; }")
    writer.call("write", id=job, text=f"in the pane\n{LINES}")
    expect(pane.locator("pre")).to_contain_text("in the pane")
    assert pane.locator("pre").evaluate("(box) => box.scrollTop") == 300
    page.bring_to_front()
    with page.expect_event("load"):  # the page is loaded again
        writer.call("end", id=job, state="succeeded")
    expect(box).to_contain_text("not followed")
    assert page.locator("notifications-output pre").evaluate("(box) => box.scrollTop") == 300
    later = page.context.new_page()
    box = open_job(later, site, job)
    assert box.evaluate(from_end) < 2, "what is done is opened at its end"
    assert box.bounding_box()["height"] <= 320
    inbox_later = page.context.new_page()
    inbox_later.goto(f"{site.url}/notifications/")
    box = inbox_later.get_by_role("region", name="Reading pane").locator("notifications-output pre")
    expect(box).to_have_js_property("scrollTop", box.evaluate("(box) => box.scrollHeight - box.clientHeight"))
    inbox_later.close()
    later.close()
    inbox.bring_to_front()
    expect(pane.locator(".notifications-state")).to_contain_text("Succeeded")
    assert pane.locator("pre").evaluate("(box) => box.scrollTop") == 300
    for verb, inverse in (("unread", "read"), ("read", "unread")):  # The page has marked it as read.
        pane.get_by_role("button", name=f"Mark as {verb}").click()
        expect(pane.get_by_role("button", name=f"Mark as {inverse}")).to_be_visible()
        assert pane.locator("pre").evaluate("(box) => box.scrollTop") == 300
    assert pane.locator("pre").count() == 1


@pytest.mark.parametrize("width", [1280, 380])
def test_the_result_moves_nothing_that_is_read(site, writer, new_page, width):
    """It stands last for those who have watched the end, with a link to it, and first for those who come later."""
    page = new_page(viewport={"width": width, "height": 800})
    record_shifts(page)
    job = writer.call("start_job")
    writer.call("write", id=job, text="Checking\n" * 8)
    box = open_job(page, site, job)
    before = box.bounding_box()
    with page.expect_event("load"):  # the page is loaded again
        writer.call("end", id=job, state="succeeded", result='{"rows": 12, "skipped": [1, 2, 3]}')
    result = page.get_by_role("region", name="Result")
    expect(result).to_contain_text('"rows": 12')
    assert abs(box.bounding_box()["y"] - before["y"]) <= 1
    assert result.bounding_box()["y"] > box.bounding_box()["y"]
    moved, sources = read_shifts(page)
    assert moved <= MAX_SHIFT, sources
    page.get_by_role("link", name="View result").click()
    expect(result).to_be_in_viewport()
    writer.call("end_before", id=job, seconds=60)
    page.reload()
    assert result.bounding_box()["y"] < box.bounding_box()["y"]
    expect(page.get_by_role("link", name="View result")).to_have_count(0)


@pytest.mark.parametrize("width", [1280, 380])
def test_the_timeline_follows_the_job(site, writer, new_page, width):
    """It appears below the output, which keeps its place, as does the timeline when the output grows."""
    page = new_page(viewport={"width": width, "height": 1000})
    record_shifts(page)
    job = writer.call("start_job")
    writer.call("write", id=job, text="Checking\n")
    box = open_job(page, site, job)
    before = box.bounding_box()["y"]
    timeline = page.get_by_role("region", name="Timeline")
    expect(timeline).to_have_count(0)
    writer.call("fail_attempt", id=job)
    expect(timeline.get_by_role("listitem")).to_contain_text(["Attempt 1", "Attempt 2"])
    place = timeline.bounding_box()["y"]
    writer.call("write", id=job, text="Checking again\n" * 6, attempt=2)
    expect(box).to_contain_text("again")
    assert (box.bounding_box()["y"], timeline.bounding_box()["y"]) == (before, place)
    moved, sources = read_shifts(page)
    assert moved <= MAX_SHIFT, sources


def test_the_room_of_a_running_job_is_given_up_unseen(site, writer, new_page):
    """Those who come after the end never have it; for those who have watched it it goes where they see nothing move."""
    page = new_page(viewport={"width": 1280, "height": 700})
    job = writer.call("start_job")
    writer.call("write", id=job, text="Checking\n")
    box = open_job(page, site, job)
    writer.call("fail_attempt", id=job)
    timeline = page.get_by_role("region", name="Timeline")
    expect(timeline).to_be_visible()
    before = timeline.bounding_box()["y"]
    with page.expect_event("load"):  # the page is loaded again
        writer.call("end", id=job, state="succeeded", result=f"[{', '.join(['1'] * 60)}]")
    expect(page.get_by_text("Succeeded")).to_be_visible()
    wait_until_live(page)
    assert timeline.bounding_box()["y"] == before
    result = page.get_by_role("region", name="Result")
    result.get_by_text("1").first.evaluate(
        "(text) => scrollTo(0, text.getBoundingClientRect().top + scrollY - 40)"
    )
    place = result.bounding_box()["y"]
    expect(page.locator("[data-steady]")).to_have_count(0)
    assert result.bounding_box()["y"] == place
    assert box.bounding_box()["height"] < 100
    later = page.context.new_page()
    box = open_job(later, site, job)
    assert box.bounding_box()["height"] < 100
    expect(later.locator("[data-steady]")).to_have_count(0)


READ_HIGHLIGHTS = """() => ["found", "current"].map((name) =>
    [...CSS.highlights.get(`notifications-${name}`)].map((range) => range.toString()))"""
IS_CURRENT_SEEN = """(box) => {
    const [range] = [...CSS.highlights.get("notifications-current")];
    const [place, frame] = [range.getBoundingClientRect(), box.getBoundingClientRect()];
    return frame.top <= place.top && place.bottom <= frame.bottom;
}"""


def test_output_is_searched(site, writer, page):
    """What is found is marked and counted, by keys too, over all texts; nodes and the selection stay as they are."""
    job = writer.call("start_job")
    writer.call("write", id=job, text=f"Straße 1 (a+b)\n{LINES}row")
    box = open_job(page, site, job)
    box.evaluate(MARK_FIRST_NODE)
    field = page.get_by_role("searchbox", name="Find in output")
    count = page.locator(".notifications-find [role=status]")
    field.fill("LINE 19")
    expect(count).to_have_text("1 of 11")
    assert page.evaluate(READ_HIGHLIGHTS) == [["Line 19"] * 11, ["Line 19"]]
    assert box.evaluate(IS_CURRENT_SEEN)
    for key, expected in (("Enter", 2), ("Enter", 3), ("Shift+Enter", 2)):
        field.press(key)
        expect(count).to_have_text(f"{expected} of 11")
        assert box.evaluate(IS_CURRENT_SEEN)
    for name, expected in (("Previous", 1), ("Previous", 11), ("Next", 1)):
        page.get_by_role("button", name=name).click()
        expect(count).to_have_text(f"{expected} of 11")
        assert box.evaluate(IS_CURRENT_SEEN)
    writer.call("write", id=job, text="s and more\nLine 19\n")  # It follows what is written.
    expect(count).to_have_text("1 of 12")
    field.fill("rows and")  # Over two nodes.
    expect(count).to_have_text("1 of 1")
    assert page.evaluate(READ_HIGHLIGHTS)[1] == ["rows and"]
    for words in ("(a+b)", "straße", "line 199"):
        field.fill(words)
        expect(count).to_have_text("1 of 1")
    field.fill("nothing of this")
    expect(count).to_have_text("0 of 0")
    expect(page.get_by_role("button", name="Next")).to_be_disabled()
    field.press("Escape")
    expect(field).to_have_value("")
    expect(count).to_have_text("")
    assert page.evaluate(READ_HIGHLIGHTS) == [[], []]
    assert box.evaluate(IS_FIRST_NODE_KEPT)


@pytest.mark.nightly
def test_attempts_and_the_end_are_announced(site, writer, page, new_page):
    """On the page that is open, and as the same text on one that is opened later."""
    job = writer.call("start_job")
    writer.call("write", id=job, text="one\n")
    box = open_job(page, site, job)
    status = page.locator("notifications-output [data-output-part=status]")
    writer.call("write", id=job, text="two", attempt=2)
    expect(box).to_contain_text("two")
    expect(status).to_have_text("Attempt 2")
    expect(box.locator("span")).to_have_text("Attempt 2")
    assert text_of(box) == "one\n\nAttempt 2\ntwo"
    later = new_page()
    assert text_of(open_job(later, site, job)) == "one\n\nAttempt 2\ntwo"
    page.evaluate("document.querySelector('notifications-job').removeAttribute('reload')")
    writer.call("end", id=job, state="cancelled")
    expect(status).to_have_text("Stopped.")
    status = later.locator("notifications-output [data-output-part=status]")
    expect(status).to_have_text("Stopped.")
    job = writer.call("start_job")
    open_job(later, site, job)
    later.evaluate("document.querySelector('notifications-job').removeAttribute('reload')")
    for attempt in (1, 2):
        writer.call("write", id=job, text="one\n", attempt=attempt)
    expect(status).to_have_text("Attempt 2")
    writer.call("end", id=job, state="succeeded")
    expect(status).to_have_text("")


@pytest.mark.nightly
def test_it_goes_on_when_the_server_is_back(site, writer, new_page):
    """Nothing is lost or shown twice."""
    page = new_page(errors=False)
    job = writer.call("start_job")
    writer.call("write", id=job, text="before\n")
    box = open_job(page, site, job)
    site.web.kill()
    writer.call("write", id=job, text="meanwhile\n")
    site.start_web()
    expect(box).to_contain_text("meanwhile")
    writer.call("write", id=job, text="after")
    expect(box).to_contain_text("after")
    assert text_of(box) == "before\nmeanwhile\nafter"


@pytest.mark.nightly
def test_a_server_that_streams_nothing(site, writer, new_page):
    """As a WSGI server, which refuses it: the text is read again and again."""
    page = new_page(errors=False)
    page.route("**live=sse*", lambda route: route.fulfill(status=501))
    job = writer.call("start_job")
    box = open_job(page, site, job)
    for text in ("one\n", "two\n", "three\n"):
        writer.call("write", id=job, text=text)
        expect(box).to_contain_text(text.strip())
    assert text_of(box) == "one\ntwo\nthree"


@pytest.mark.nightly
def test_a_hidden_tab_holds_no_connection(site, writer, page):
    job = writer.call("start_job")
    writer.call("write", id=job, text="one\n")
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    box = open_job(page, site, job)
    hide = """(state) => {
        Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, "hidden")
    writer.call("write", id=job, text="two\n")
    page.wait_for_timeout(1000)
    assert "two" not in text_of(box)
    page.evaluate(hide, "visible")
    expect(box).to_contain_text("two")
    assert text_of(box) == "one\ntwo"


@pytest.mark.nightly
def test_an_element_that_a_page_inserts(site, writer, page):
    """Its script is loaded then; it has its own texts, and an event for each text."""
    job = writer.call("start_job")
    requested = []
    page.on("request", lambda request: requested.append(request.url))
    visit(page, site.url, "/check/")
    wait_until_live(page)
    assert not any("output" in url for url in requested)
    page.evaluate(
        """(job) => {
            window.got = "";
            document.addEventListener("notifications:output", ({ detail }) => { window.got += detail.text; });
            const element = document.createElement("notifications-output");
            element.setAttribute("job", job);
            document.body.append(element);
        }""",
        job,
    )
    writer.call("write", id=job, text="inserted\n")
    box = page.locator("notifications-output pre")
    expect(box).to_contain_text("inserted")
    writer.call("write", id=job, text="again", attempt=2)
    expect(box.locator("span")).to_have_text("Attempt 2")
    assert page.evaluate("window.got") == "inserted\n\n\x1eattempt 2\nagain"


@pytest.mark.nightly
def test_a_listener_gets_all_parts(site, writer, page):
    """From the beginning, in order, with the lines of the app apart, until it is removed. Nothing is loaded before."""
    job = writer.call("start_job")
    requested = []
    page.on("request", lambda request: requested.append(request.url))
    visit(page, site.url, "/check/")
    wait_until_live(page)
    writer.call("write", id=job, text="before\n")
    assert not any("output" in url for url in requested)
    page.evaluate(
        """async (id) => {
            const { job } = await notifications.ready;
            window.parts = [];
            window.remove = job(id).on("output", (part) => window.parts.push(part));
        }""",
        job,
    )
    page.wait_for_function("() => window.parts.length === 1")
    writer.call("write", id=job, text="second", attempt=2)
    page.wait_for_function("() => window.parts.at(-1).text === 'second'")
    parts = page.evaluate("window.parts")
    assert [part["mark"] for part in parts if part["mark"]] == ["attempt 2"]
    assert "".join(part["text"] or f"[{part['mark']}]" for part in parts) == "before\n[attempt 2]second"
    with page.expect_event("requestfailed", lambda request: "/output/" in request.url):
        page.evaluate("window.remove()")
    writer.call("write", id=job, text="after", attempt=2)
    writer.call("end", id=job, state="succeeded")
    page.wait_for_function("async (id) => (await notifications.ready).job(id).item?.done", arg=job)
    assert page.evaluate("window.parts") == parts


@pytest.mark.nightly
def test_without_javascript(site, writer, new_page):
    """The text that there is, and where all of it is if it is long."""
    job = writer.call("start_job")
    writer.call("write", id=job, text=f"{LINES * 200}the end")
    page = new_page(java_script_enabled=False)
    sign_in(page, site.url)
    page.goto(f"{site.url}/notifications/jobs/{job}/")
    expect(page.locator("notifications-output pre")).to_contain_text("Line 199")
    page.get_by_role("link", name="The whole text").click()
    expect(page.locator("body")).to_contain_text("Line 0")


@pytest.mark.nightly
def test_jobs_without_output(site, writer, page):
    """Their page has no element when they are done."""
    job = writer.call("start_job")
    writer.call("end", id=job, state="succeeded")
    visit(page, site.url, f"/notifications/jobs/{job}/")
    expect(page.locator("notifications-output")).to_have_count(0)


class HoldingProxy(Proxy):
    """A proxy that holds back each response of Server-Sent Events until its end, as one that buffers responses does."""

    def respond(self, server, client, pair):
        held = b""
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if not held and b"text/event-stream" not in data:
                    client.sendall(data)
                    continue
                held += data
                if held.endswith(b"\r\n0\r\n\r\n"):
                    client.sendall(held)
                    held = b""
        for connection in pair:
            shut_down(connection)


@pytest.fixture
def holding_proxy(site):
    with HoldingProxy(site.port) as proxy:
        yield proxy


def test_a_proxy_that_holds_events_back(writer, holding_proxy, page):
    """What is written arrives by long polls, and not with the end of the response after a minute."""
    job = writer.call("start_job")
    visit(page, holding_proxy.url, f"/notifications/jobs/{job}/")
    box = page.locator("notifications-output pre")
    for number in range(3):
        writer.call("write", id=job, text=f"Line {number}\n")
        expect(box).to_contain_text(f"Line {number}", timeout=30_000)
    assert text_of(box).splitlines() == ["Line 0", "Line 1", "Line 2"]
    requests = page.evaluate("performance.getEntriesByType('resource').map(({ name }) => name)")
    assert any("live=long-poll" in url for url in requests)
    writer.call("end", id=job, state="succeeded")
    expect(page.locator(".notifications-state").first).to_contain_text("Succeeded")


@pytest.mark.nightly
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility(site, writer, new_page, scheme):
    job = writer.call("start_job")
    writer.call("write", id=job, text=LINES)
    writer.call("write", id=job, text=f"again\n{'long' * 100}\n", attempt=2)
    page = new_page(color_scheme=scheme, viewport={"width": 380, "height": 800})
    open_job(page, site, job)
    assert find_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 380


@pytest.mark.nightly
def test_a_stop_on_one_device_stops_all(site_server, new_page):
    """The findings of a report, which two devices read."""
    pages = [new_page(), new_page(viewport={"width": 380, "height": 800})]
    sign_in(pages[0], site_server.url)
    create_report(pages[0], site_server.url, site_server.held_urls(8), "Findings")
    sign_in(pages[1], site_server.url)
    pages[1].goto(pages[0].url)
    boxes = [page.locator("notifications-output pre") for page in pages]
    for box in boxes:
        expect(box).to_contain_text("Checking 8 URLs.")
    pages[0].get_by_role("button", name="Cancel").click()
    for page in pages:
        expect(page.locator("notifications-output [data-output-part=status]")).to_have_text("Stopped.")
        expect(page.get_by_role("heading", name=re.compile("Cancelled"))).to_be_visible()
