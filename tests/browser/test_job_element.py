"""<notifications-job>: rows of a list, outages, and the bell of a user who has signed out."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.parts import create_report, find_bell, open_bell, visit, wait_for_state
from tests.support.browser import PAGE_TIMEOUT_MS, sign_in
from tests.support.waiting import wait_until

pytestmark = pytest.mark.browser

ENQUEUE = """async ({ urls, title }) => {
    const { ask } = await notifications.ready;
    return await ask("/reports/", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ title, urls }),
    }).accepted;
}"""

#: A table of 200 jobs: one that is active, and 199 that are rendered as done.
ADD_ROWS = """(id) => {
    const rows = Array.from({ length: 200 }, (_, index) => {
        const isActive = index === 100;
        const job = isActive ? id : crypto.randomUUID();
        const state = isActive ? "queued" : "succeeded";
        return `<tr><td><notifications-job row job="${job}" data-state="${state}"></notifications-job>
            <span data-job-part="state">${isActive ? "Queued" : "Succeeded"}</span></td>
            <td data-job-part="progress"></td><td data-job-part="outcome"></td></tr>`;
    });
    const table = document.createElement("table");
    table.id = "many";
    table.innerHTML = rows.join("");
    document.body.append(table);
}"""


def enqueue(page, site, *, title="Live"):
    """Enqueue a report of eight calls that respond when the site releases them."""
    return page.evaluate(ENQUEUE, {"urls": site.held_urls(8), "title": title})


def test_200_rows_are_live_without_a_request_for_each(site_server, page):
    """State, progress and outcome of the one active job are shown. Jobs that are rendered as done are not requested."""
    visit(page, site_server.url, "/check/")
    requested = []
    page.on("request", lambda request: requested.append(request.url))
    job = enqueue(page, site_server)
    page.evaluate(ADD_ROWS, job)
    row = page.locator("#many tr").nth(100)
    expect(row).to_contain_text("Running")
    site_server.release(3)
    expect(row).to_contain_text("3 of 8")
    site_server.release()
    expect(row.locator("[data-job-part=state]")).to_have_text("Succeeded")
    expect(row.locator("[data-job-part=state]")).to_have_attribute("data-state", "succeeded")
    expect(row.locator("[data-job-part=outcome]")).to_have_text("8 passed")
    expect(row.locator("[data-job-part=progress]")).to_have_text("")
    assert len([url for url in requested if "/api/jobs/" in url]) <= 1
    assert page.locator("#many").get_by_text("Succeeded").count() == 200


def test_an_element_without_content_shows_a_bar_and_a_text(site_server, page):
    visit(page, site_server.url, "/check/")
    job = enqueue(page, site_server)
    page.evaluate(
        """(id) => {
            const element = document.createElement("notifications-job");
            element.setAttribute("job", id);
            document.querySelector("main").append(element);
        }""",
        job,
    )
    element = page.locator("notifications-job")
    expect(element.get_by_role("progressbar", name="Progress")).to_have_attribute("max", "8")
    site_server.release(3)
    expect(element.locator("[data-job-part=text]")).to_have_text(re.compile(r"^Running · (.* · )?3 of 8$"))
    site_server.release()
    expect(element.locator("[data-job-part=text]")).to_have_text("Succeeded · 8 passed")
    expect(element.get_by_role("status")).to_have_text("Succeeded · 8 passed")


@pytest.mark.nightly
def test_an_outage_is_shown_on_the_page_of_a_running_job_and_at_the_closed_bell(site_server, proxy, new_page):
    """A form that cannot be sent keeps the page. When the server is back, the page goes on."""
    page = new_page(errors=False)
    visit(page, proxy.url, "/check/")
    address = create_report(page, proxy.url, site_server.held_urls(1), "Outage")
    wait_for_state(page, "live")
    expect(page.get_by_text("You can leave this page.")).to_be_visible()
    proxy.cut()
    expect(page.get_by_text("Can't reach the server. The report goes on")).to_be_visible()
    expect(page.get_by_text("You can leave this page.")).to_be_hidden()
    expect(find_bell(page)).to_have_accessible_description("Can't reach the server. Reconnecting…")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Not sent. Can't reach the server.")).to_be_visible()
    assert page.url == address
    proxy.restore()
    page.evaluate("dispatchEvent(new Event('online'))")
    expect(page.get_by_text("You can leave this page.")).to_be_visible()
    expect(find_bell(page)).to_have_accessible_description("")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("heading", name="Cancelled by you")).to_be_visible()
    expect(page.get_by_role("button", name="Check remaining 1")).to_be_visible()


@pytest.mark.nightly
def test_signed_out_the_bell_has_only_a_link_to_sign_in_and_back(site_server, page):
    """What it showed before is gone, and the link returns to the page."""
    site_server.manage("notify", "demo", "Private")
    visit(page, site_server.url, "/reports/?page=1")
    other = page.context.new_page()
    other.goto(f"{site_server.url}/check/")
    expect(open_bell(page).get_by_text("Private")).to_be_visible()
    other.get_by_role("button", name="Sign out").click()
    dialog = page.get_by_role("dialog", name="Notifications")
    page.bring_to_front()
    link = dialog.get_by_role("link", name="Sign in")
    expect(link).to_be_visible()
    assert dialog.inner_text().strip() == "You are signed out. Sign in"
    link.click()
    page.wait_for_url("**/accounts/login/?next=**")
    page.locator("input[name=username]").fill("demo")
    page.locator("input[name=password]").fill("demo")
    page.locator("input[name=password]").press("Enter")
    page.wait_for_url("**/reports/?page=1")


def test_one_row_of_the_inbox_is_marked_as_read_without_a_reload(site_server, page):
    """The page does not scroll, and the focus stays in the row."""
    site_server.python(
        "from django.contrib.auth import get_user_model\n"
        "from notifications.api import notify\n"
        "user = get_user_model().objects.get(username='demo')\n"
        "for number in range(20): notify(user, f'Number {number}', url='/check/')"
    )
    visit(page, site_server.url, "/notifications/")
    page.evaluate("window.isKept = true")
    page.get_by_role("button", name="Mark as read: Number 3").click()
    expect(page.get_by_role("button", name="Mark as read: Number 3")).to_have_count(0)
    assert page.evaluate("window.isKept && scrollY > 0")
    expect(page.get_by_role("link", name="Number 3", exact=True)).to_be_focused()
    expect(find_bell(page, 19)).to_be_visible()


def test_the_whole_row_is_the_link(site_server, page):
    site_server.manage("notify", "demo", "Wide", "--url", "/check/")
    visit(page, site_server.url, "/reports/")
    row = open_bell(page).get_by_role("listitem")
    box = row.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 4, box["y"] + box["height"] - 4)
    page.wait_for_url("**/check/")


def test_f8_moves_the_focus_to_the_toast_and_back(site_server, page):
    """The key is announced, and in the order of the Tab key toasts come after the skip link, before the content."""
    visit(page, site_server.url, "/reports/")
    page.get_by_label("Title").focus()
    site_server.manage("notify", "demo", "Hello", "--url", "/check/")
    toast = page.locator(".notifications-toast")
    expect(toast).to_contain_text("Press F8")
    expect(page.get_by_role("region", name="New notifications (F8)")).to_have_count(1)
    page.keyboard.press("F8")
    expect(toast.get_by_role("link")).to_be_focused()
    page.keyboard.press("F8")
    expect(page.get_by_label("Title")).to_be_focused()
    page.keyboard.press("F8")
    page.keyboard.press("Escape")
    expect(toast).to_have_count(0)
    expect(page.get_by_label("Title")).to_be_focused()
    assert (
        page.evaluate("document.querySelector('notifications-toasts').previousElementSibling.className")
        == "skip"
    )


@pytest.mark.nightly
def test_unbroken_text_makes_no_page_wider(site_server, new_page):
    """2,000 characters as body, 200 as title, 150 as the name of the user: in the toast, the bell and the inbox."""
    site_server.python(
        "from django.contrib.auth import get_user_model\n"
        "get_user_model().objects.create_user('n' * 150, password='demo')"
    )
    for width in (1280, 380):
        page = new_page(viewport={"width": width, "height": 800})
        sign_in(page, site_server.url, "n" * 150, "demo")
        wait_for_state(page, "live")
        site_server.python(
            "from django.contrib.auth import get_user_model\n"
            "from notifications.api import notify\n"
            "user = get_user_model().objects.get(username='n' * 150)\n"
            "notify(user, 'T' * 200, body='b' * 2_000)"
        )
        toast = page.locator(".notifications-toast")
        expect(toast).to_be_visible()
        close = toast.get_by_role("button", name="Dismiss").bounding_box()
        text = toast.locator(".notifications-title").bounding_box()
        assert text["x"] + text["width"] <= close["x"] + 1, "The text runs over the button."
        bell = page.locator("notifications-bell .notifications-count:not(.notifications-asks)").bounding_box()
        name = page.locator(".username")
        assert not name.is_visible() or bell["x"] + bell["width"] <= name.bounding_box()["x"]
        assert measure_overflow(page) <= 0
        open_bell(page)
        assert measure_overflow(page) <= 0
        page.goto(f"{site_server.url}/notifications/")
        assert measure_overflow(page) <= 0
        page.context.close()


def measure_overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def test_times_stay_true_while_the_page_is_open(site_server, page):
    """The words are those of the server."""
    site_server.manage("notify", "demo", "Old", "--url", "/check/")
    page.clock.install()
    visit(page, site_server.url, "/notifications/")
    time = page.locator("notifications-inbox li time")
    expect(time).to_have_text("just now")
    page.clock.fast_forward("05:00")
    page.clock.run_for(30_000)
    expect(time).to_have_text("5 min ago")


#: A page that reloads itself, and toasts that disappear after 8 s: the titles are kept in the browser.
RECORD_TOASTS = """addEventListener("notifications:toast", ({ detail }) => {
    const titles = detail.map(({ title }) => title).join();
    localStorage.setItem("toasts", (localStorage.getItem("toasts") ?? "") + titles);
})"""


def open_before_the_job_runs(site, new_page, path):
    """Start a site without a worker, and open the page of a queued job there."""
    site.environment["EMBEDDED_WORKER"] = "0"
    site.start_web()
    page = visit(new_page(), site.url, "/check/")
    job = enqueue(page, site)
    [(report,)] = site.rows("SELECT id FROM asyncsite_report")
    page.goto(site.url + path.format(job=job, report=report))
    return wait_for_state(page, "live")


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("path", "text_at_the_end"),
    [("/reports/{report}/", "Download CSV"), ("/notifications/jobs/{job}/", "Finished")],
)
def test_a_page_that_shows_the_end_of_a_job_shows_no_toast_about_it(site, new_page, path, text_at_the_end):
    """Its notification is marked as read. The next one is a toast, there and on another device."""
    page = open_before_the_job_runs(site, new_page, path)
    site.release()
    device = visit(new_page(), site.url, "/check/")
    for each in (page, device):
        each.add_init_script(RECORD_TOASTS)
        each.reload()
        wait_for_state(each, "live")
    site.start_worker()
    expect(page.get_by_text(text_at_the_end, exact=True).locator("visible=true")).to_be_visible()
    read = "SELECT count(*) FROM notifications_notification WHERE read_at IS NOT NULL"
    wait_until(lambda: site.rows(read) == [(1,)], what="the page to mark the notification as read")
    wait_for_state(page, "live")
    site.manage("notify", "demo", "Hello")
    for each in (page, device):
        each.wait_for_function(
            "() => localStorage.getItem('toasts')?.endsWith('Hello')", timeout=PAGE_TIMEOUT_MS
        )
        expect(find_bell(each, 1)).to_be_visible()
    assert page.evaluate("localStorage.getItem('toasts')") == "Hello"


def test_an_end_that_is_shown_before_its_notification_comes(site_server, new_page):
    """The output of the job tells of its end. The notification is marked as read when it comes: no toast, no count."""
    site, held = site_server, []
    page = new_page()

    def relay(socket):
        server = socket.connect_to_server()
        server.on_message(lambda message: held.append((socket, message)) if is_held else socket.send(message))

    is_held = False
    page.route_web_socket(re.compile("/ws/notifications/"), relay)
    visit(page, site.url)
    create_report(page, site.url, site.held_urls(1), "Shown early")
    wait_for_state(page, "live")
    expect(page.locator("[data-output-part=text]")).not_to_be_empty()
    is_held = True
    site.release()
    expect(page.get_by_role("link", name="Download CSV")).to_be_visible()
    expect(page.locator("notifications-job")).to_have_count(0)
    assert held
    is_held = False
    for socket, message in held:
        socket.send(message)
    read = "SELECT count(*) FROM notifications_notification WHERE read_at IS NOT NULL"
    wait_until(lambda: site.rows(read) == [(1,)], what="the page to mark the notification as read")


@pytest.mark.nightly
@pytest.mark.parametrize("path", ["/reports/{report}/", "/notifications/jobs/{job}/"])
def test_the_elapsed_time_of_a_job_stays_true_and_its_page_says_that_it_is_cancelled(site, new_page, path):
    page = open_before_the_job_runs(site, new_page, path)
    elapsed = page.locator("[data-job-part=elapsed]")
    expect(elapsed).to_be_empty()
    worker = site.start_worker()
    expect(elapsed).to_have_text(re.compile(r"^Running for \d+ s$"))
    expect(elapsed).not_to_have_text(elapsed.inner_text())
    worker.kill()  # It would wait for the job, which does not end now.
    button = page.get_by_role("button", name="Cancel")
    url, top = page.url, button.bounding_box()["y"]
    button.click()
    expect(button).to_be_disabled()
    expect(button).to_have_text("Cancelling…")
    page.goto(url)  # The page of the job has led to that of its result.
    expect(elapsed).not_to_have_text(elapsed.inner_text())  # The frames have a job that runs.
    expect(page.locator("h2.state, .notifications-state")).to_have_text(re.compile("^Cancelling… "))
    expect(page.get_by_text("Results so far are kept.")).to_be_visible()
    expect(page.get_by_text("You can leave this page.")).to_be_hidden()
    assert button.bounding_box()["y"] == top


@pytest.mark.nightly
def test_a_batch_on_a_phone_names_the_jobs_that_failed_first(site_server, new_page):
    """Directly below its state, which keeps no empty place for what a running job writes."""
    made = site_server.python(
        "from django.contrib.auth import get_user_model\nfrom notifications.api import batch\n"
        "from tests.jobs import tasks\nuser = get_user_model().objects.get(username='demo')\n"
        "with batch(owner=user, title='Import') as b:\n    tasks.fail.enqueue()\nprint(b.id)"
    )
    page = new_page(viewport={"width": 380, "height": 800})
    visit(page, site_server.url, f"/notifications/jobs/{made.split()[-1]}/")
    failed = page.get_by_role("region", name="Failed jobs")
    expect(failed).to_be_visible()
    band, facts = page.locator(".notifications-band"), page.locator(".notifications-facts")
    button = band.get_by_role("button").bounding_box()
    bottom = band.bounding_box()["y"] + band.bounding_box()["height"]
    assert bottom - button["y"] - button["height"] <= 17
    assert bottom <= failed.bounding_box()["y"] < facts.bounding_box()["y"]


QUEUED_JOB = """
from django.contrib.auth import get_user_model
from notifications import times
from notifications.models import Job
now = times.now()
user = get_user_model().objects.get(username="demo")
fields = {"executor": "held", "queue_name": "default", "created_at": now, "queued_at": now}
print(Job.objects.create(user_id=user.pk, title="Export", task_path="shop.tasks.export", **fields).pk)
"""
START = """
from uuid import uuid4
from notifications import streams, times
from notifications.models import Job
Job.objects.update(state="running", version=2, started_at=times.now(), worker=uuid4())
streams.ring([Job.objects.get().user_id])
"""


@pytest.mark.nightly
def test_what_is_said_of_a_queued_job_is_hidden_when_it_is_started(site_server, page):
    """As that it may be lost."""
    job = site_server.python(QUEUED_JOB).strip()
    visit(page, site_server.url, f"/notifications/jobs/{job}/")
    wait_for_state(page, "live")
    page.evaluate(
        """() => {
            const part = document.querySelector("[data-job-row]").appendChild(document.createElement("p"));
            part.dataset.jobPart = "queued";
            part.textContent = "It may be lost.";
        }"""
    )
    expect(page.get_by_text("It may be lost.")).to_be_visible()
    site_server.python(START)
    expect(page.locator("[data-job-part=state]")).to_have_text("Running")
    expect(page.get_by_text("It may be lost.")).to_be_hidden()


@pytest.mark.nightly
def test_a_page_that_is_loaded_again_at_a_time(site_server, page):
    """The server has named it: it may know more then about a job that is still queued."""
    id = site_server.python(
        "from django.contrib.auth import get_user_model\n"
        "from notifications import times\n"
        "from notifications.models import Job\n"
        "user = get_user_model().objects.get(username='demo')\n"
        "values = {'task_path': 'x.y', 'backend': 'default', 'queue_name': 'default', 'title': 'Export'}\n"
        "values |= {'created_at': times.now(), 'queued_at': times.now(), 'executor': 'held'}\n"
        "print(Job.objects.create(user=user, **values).pk)"
    ).split()[-1]
    visit(page, site_server.url, f"/notifications/jobs/{id}/")
    with page.expect_navigation(timeout=PAGE_TIMEOUT_MS):
        page.evaluate(
            """() => {
                const element = document.querySelector("notifications-job");
                const other = element.cloneNode();
                other.setAttribute("reload-after", "1");
                element.replaceWith(other);
            }"""
        )
