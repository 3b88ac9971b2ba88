"""The npm package in a project of Vite, in Chromium on Daphne: ask, result, stream, elements."""

import json
import re

import pytest
from playwright.sync_api import expect

from tests.browser.parts import expect_unread, find_bell, find_toasts
from tests.support.browser import sign_in
from tests.support.example_page import ExamplePage
from tests.support.npm import NODE_MODULES, Package, run
from tests.support.requirements import find_program

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

#: What a page shows of a job and of the stream.
MAIN = """
import { ask, JobCancelled, JobFailed, RequestRefused, stream } from "asyncsite-notifications";

const shown = (window.shown = { states: [], notifications: [], jobs: new Set(), errors: [] });
stream.on("state", (state) => shown.states.push(state));
stream.on("notification", (notification) => shown.notifications.push(notification.title));
stream.on("job", (job) => shown.jobs.add(job.state));
stream.on("unseen", (count) => { shown.unseen = count; });
window.ask = ask;
window.stream = stream;
window.enqueue = (urls) => ask("/reports/", {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ title: "From Vite", urls }),
});
window.nameError = (error) => Object.entries({ JobCancelled, JobFailed, RequestRefused })
  .filter(([name, ErrorClass]) => error instanceof ErrorClass && error.name === name)
  .map(([name]) => name + ": " + error.message);
"""

TYPES = """
import { ask, connect, job, JobFailed, stream } from "asyncsite-notifications";
import type { JobHandle, JobItem, Notification, StreamState } from "asyncsite-notifications";
import "asyncsite-notifications/elements";

const handle: JobHandle = ask("/reports/", { method: "POST", signal: AbortSignal.timeout(1000) });
const id: Promise<string | null> = handle.accepted;
const remove: () => void = handle.on("progress", ({ current, total }) => (total ?? 0) - current);
handle.on("done", (item: JobItem) => item.state.length);
const again: JobHandle = job("0192").retry();
stream.on("notification", (notification: Notification) => notification.title.length);
stream.on("state", (state: StreamState) => state.restored && state.signed_out);
stream.on("unseen", (count: number | null) => count);
connect({ url: "/n/" });
export { again, id, remove, JobFailed };
// @ts-expect-error: there is no such event
stream.on("notifications", () => undefined);
// @ts-expect-error: what belongs to the client is private
handle.update({});
"""


@pytest.fixture(scope="module")
def package():
    return Package()


@pytest.fixture(scope="module")
def core(package):
    """The bundle of MAIN."""
    return package.bundle({"main.js": MAIN})


@pytest.fixture(scope="module")
def bundle_with_elements(package):
    return package.bundle({"main.js": 'import "asyncsite-notifications/elements";\n' + MAIN})


def open_example(page, site, bundle, **options):
    html = "".join(f'<script type="module" src="{path}"></script>' for path in bundle)
    return ExamplePage(page, site.url, html, bundle, **options).open()


def wait_until_connected(page):
    page.wait_for_function("() => window.shown?.states.at(-1)?.connected")


@pytest.mark.nightly
def test_types(package, tmp_path):
    """What the documentation shows compiles, and what is private does not."""
    folder = tmp_path / "node_modules"
    folder.mkdir()
    (folder / "asyncsite-notifications").symlink_to(package.folder)
    (tmp_path / "example.ts").write_text(TYPES)
    options = {
        "strict": True,
        "noEmit": True,
        "target": "ES2023",
        "module": "ES2022",
        "moduleResolution": "bundler",
    }
    options |= {"lib": ["ES2023", "DOM"], "types": []}
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "files": ["example.ts"]}))
    node = find_program("node", package="nodejs")
    run(node, NODE_MODULES / "typescript/bin/tsc", "--project", tmp_path, cwd=tmp_path)


def test_ask_result_and_stream(site_server, page, core):
    """Beside the tag's own script, whose bell and toasts work on. The client of the bundle gets what that one gets."""
    sign_in(page, site_server.url)
    open_example(page, site_server, core)
    wait_until_connected(page)
    result = page.evaluate("url => enqueue([url]).result", f"{site_server.url}/upstream/ok")
    assert result["ok"] == 1
    page.wait_for_function("() => window.shown.notifications.length === 1 && window.shown.unseen === 1")
    assert page.evaluate("[...shown.jobs].at(-1)") == "succeeded"
    assert page.evaluate("shown.states") == [
        {"connected": True, "reconnected": False, "restored": True, "signed_out": False}
    ]
    expect_unread(page, 1)
    expect(find_toasts(page)).to_have_count(1)


@pytest.mark.nightly
def test_elements_of_a_bundle(site_server, page, bundle_with_elements):
    """`{% notifications script=False %}`: bell and toasts come from the bundle, with one client."""
    sign_in(page, site_server.url)
    open_example(page, site_server, bundle_with_elements, tag="data")
    wait_until_connected(page)
    assert page.evaluate("'notifications' in window") is False
    site_server.manage("notify", "demo", "Hello")
    expect_unread(page, 1)
    expect(find_toasts(page)).to_have_count(1)
    assert page.evaluate("shown.notifications") == ["Hello"]


def test_errors_are_told_apart_by_class(site_server, page, core):
    """A cancelled job, and a form that is refused: the message is that of its first field."""
    sign_in(page, site_server.url)
    open_example(page, site_server, core)
    wait_until_connected(page)
    cancelled = page.evaluate(
        """async (url) => {
            const job = enqueue([url]);
            const failure = job.result.catch(nameError);
            await job.cancel();
            return await failure;
        }""",
        f"{site_server.url}/upstream/slow?s=20",
    )
    assert len(cancelled) == 1
    assert cancelled[0].startswith("JobCancelled: ")


def test_refused(site_server, new_page, core):
    page = new_page(errors=False)  # Chromium logs the 422.
    sign_in(page, site_server.url)
    open_example(page, site_server, core)
    wait_until_connected(page)
    [refused] = page.evaluate("enqueue([]).result.catch(nameError)")
    assert re.match(r"RequestRefused: .*URL", refused)


def test_anonymous_page(site_server, page, core):
    """The names are there, nothing is sent, and the user is told why."""
    sent = []
    page.on("request", lambda request: sent.append(request.url) if "/reports/" in request.url else None)
    open_example(page, site_server, core)
    page.wait_for_function("() => window.shown")
    for promise in ("accepted", "result"):
        [refused] = page.evaluate(f"enqueue([]).{promise}.catch(nameError)")
        assert refused == "RequestRefused: You are not signed in. Sign in and try again."
    assert page.evaluate("[stream.state.signed_out, stream.unseen]") == [True, None]
    assert sent == []
    expect(find_bell(page)).to_have_count(0)


@pytest.mark.nightly
def test_page_without_the_tag(site_server, page, package):
    """`connect()`: the stream of the user of the session, from a snapshot."""
    bundle = package.bundle(
        {"main.js": 'import { connect } from "asyncsite-notifications";\nconnect();\n' + MAIN}
    )
    sign_in(page, site_server.url)
    open_example(page, site_server, bundle, tag="none")
    wait_until_connected(page)
    assert page.locator("notifications-bell").count() == 0
    result = page.evaluate("url => enqueue([url]).result", f"{site_server.url}/upstream/ok")
    assert result["ok"] == 1
    page.wait_for_function("() => window.shown.notifications.length === 1")
