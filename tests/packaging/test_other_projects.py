"""The app in projects of other people: the bell of a page rings by the WebSocket, under a policy, without an error.

What cookiecutter-django generates is in a file, because its template is on no package index.
"""

import pytest
from playwright.sync_api import expect

from tests.browser.parts import expect_unread, find_toasts, wait_until_live
from tests.packaging.other_projects import PROJECTS
from tests.support.waiting import FACTOR

#: In which a job is enqueued, executed, and shown on an open page. A page without a connection polls every 15 s.
LIVE_SECONDS = 2

pytestmark = [pytest.mark.packaging, pytest.mark.browser, pytest.mark.timeout(600), pytest.mark.nightly]


@pytest.fixture(params=PROJECTS)
def project(request, tmp_path, wheel, postgres):
    project = PROJECTS[request.param](tmp_path, wheel, postgres)
    try:
        project.make()
        project.start()
        yield project
    finally:
        project.close()
        if project.process:
            print(project.process.output)


def test_the_bell_rings(project, page):
    """Migrate, check, sign in, enqueue: header, toast and panel have the job, which came in a frame."""
    frames = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: frames.append(str(frame))))
    project.sign_in(page)
    wait_until_live(page)
    expect(page.locator(project.header).get_by_role("button", name="Notifications")).to_be_visible()
    expect_unread(page, 0)
    page.evaluate("addEventListener('notifications:toast', () => window.shownAt ??= Date.now() / 1000)")
    enqueued_at, _ = project.enqueue("add", 2, 3)
    expect(find_toasts(page)).to_contain_text("Add 2 and 3")
    expect_unread(page, 1)
    seconds = page.evaluate("window.shownAt") - enqueued_at
    print(f"Shown {seconds:.2f} s after it was enqueued.")
    assert seconds < LIVE_SECONDS * FACTOR
    assert any('"Add 2 and 3"' in frame for frame in frames), "It came by a poll."
    project.check(page)
