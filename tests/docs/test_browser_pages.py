"""The examples of plain pages, htmx, Alpine, React and Turbo: their code in Chromium, with the policy of the site."""

import json
import re
from uuid import UUID

import pytest
from playwright.sync_api import expect

from tests.browser.parts import expect_unread, wait_until_live
from tests.docs.pages import DOCS, blocks, section
from tests.support.browser import sign_in
from tests.support.example_page import ExamplePage
from tests.support.npm import NODE_MODULES, Package, require_node_modules, run
from tests.support.requirements import find_program
from tests.support.site import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.timeout(100)]

STUBS_OF_THE_PAGE = """
const ignore = () => undefined;
globalThis.addEventListener = ignore;
globalThis.navigator ??= {};
globalThis.location = new URL("http://localhost/");
globalThis.document = { addEventListener: ignore, querySelector: () => null, cookie: "", visibilityState: "visible" };
"""


@pytest.mark.parametrize(
    "tested",
    [
        {"Alpine": ["@alpinejs/csp"]},
        {"Bootstrap": ["bootstrap"], "Tailwind CSS": ["tailwindcss"], "Bulma": ["bulma"]},
        {"htmx": ["htmx4", "htmx.org"]},
        {"React": ["react"]},
        {"Turbo": ["@hotwired/turbo"]},
    ],
)
def test_a_page_names_the_versions_that_are_tested(tested):
    """The major ones of package.json."""
    installed = json.loads((ROOT / "package.json").read_text())["devDependencies"]
    majors = [
        f"{name} {re.search(r'(?:^|@)([0-9]+)', installed[package])[1]}"
        for name, packages in tested.items()
        for package in packages
    ]
    text = "".join(
        (DOCS / f"how-to/{name}.md").read_text() for name in ("front-ends", "react", "css-frameworks")
    )
    sentences = re.findall(r"^(?:It|The page) is tested with (.+)\.$", text, re.M)
    assert majors in [re.split(", | and ", sentence) for sentence in sentences]


FRONT_ENDS = DOCS / "how-to/front-ends.md"


def read_section(heading):
    """Return the HTML blocks and the JavaScript blocks below a heading."""
    return blocks(FRONT_ENDS, "html", heading), blocks(FRONT_ENDS, "js", heading)


def library(path):
    require_node_modules()
    return (NODE_MODULES / path).read_text()


def script_tags(paths):
    return "".join(f'<script type="module" src="{path}"></script>' for path in paths)


@pytest.fixture(scope="module")
def package():
    return Package()


def check_urls(page, site, button="Check"):
    """Send the form of the example with two URLs, and expect the result and the notification."""
    page.get_by_label("URLs").fill(f"{site.url}/upstream/slow?s=1\n{site.url}/upstream/ok")
    page.get_by_role("button", name=button).click()
    expect(page.get_by_role("status").filter(has_text="Done")).to_have_text("Done: 2 ok")
    expect_unread(page, 1)


def test_plain_pages(site_server, page):
    """The job and its result; then a job that is cancelled."""
    [html], [script] = read_section("Plain pages")
    sign_in(page, site_server.url)
    ExamplePage(page, site_server.url, html, {"/example/report.js": script}).open()
    wait_until_live(page)
    check_urls(page, site_server)
    page.get_by_label("URLs").fill(f"{site_server.url}/upstream/slow?s=20")
    page.get_by_role("button", name="Check").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#status")).to_have_text("Cancelled")


def test_plain_page_shows_the_error_of_a_field(site_server, new_page):
    [html], [script] = read_section("Plain pages")
    page = new_page(errors=False)  # Chromium logs the 422.
    sign_in(page, site_server.url)
    ExamplePage(page, site_server.url, html, {"/example/report.js": script}).open()
    wait_until_live(page)
    page.get_by_role("button", name="Check").click()
    expect(page.locator("#status")).to_have_text("Enter at least one URL, one per line, or choose a file.")


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("package_name", "headers"), [("htmx.org", "hx-headers"), ("htmx4", "hx-headers:inherited")]
)
def test_htmx(site_server, page, package_name, headers):
    """The part is read again when its job is done, and when a notification arrives; a form is posted."""
    [html], [script] = read_section("htmx")
    assert headers in section(FRONT_ENDS, "htmx")
    html += (
        f"""<div {headers}='{{"X-CSRFToken": "the-token"}}'><button hx-post="/posted/">Post</button></div>"""
    )
    scripts = {
        "/example/live.js": script,
        "/example/htmx.min.js": library(f"{package_name}/dist/htmx.min.js"),
    }

    def read_reports():
        rows = site_server.rows("SELECT title, id, state FROM notifications_job")
        [(count,)] = site_server.rows("SELECT COUNT(*) FROM notifications_notification")
        return {
            "reports": [
                {"title": f"{title}, {count} notifications", "job_id": UUID(str(job)), "state": state}
                for title, job, state in rows
            ]
        }

    page.route("**/posted/", lambda route: route.fulfill(body="Done", content_type="text/html"))
    sign_in(page, site_server.url)
    urls = f"{site_server.url}/upstream/slow?s=15"
    page.goto(f"{site_server.url}/reports/")
    page.get_by_label("URLs", exact=True).fill(urls)
    page.get_by_label("Title").fill("Slow")
    page.get_by_role("button", name="Check URLs").click()
    page.wait_for_url(re.compile(r"/reports/[^/]+/$"))
    ExamplePage(page, site_server.url, html, scripts, context=read_reports).open()
    part = page.locator("#reports")
    expect(part).to_contain_text("Slow, 0 notifications")
    expect(part.locator("notifications-job")).to_contain_text("Succeeded")
    expect(part).to_contain_text("Slow, 1 notifications")
    site_server.manage("notify", "demo", "Hello")
    expect(part).to_contain_text("Slow, 2 notifications")
    expect(part.locator("notifications-job")).to_contain_text("Succeeded")
    with page.expect_request("**/posted/") as posted:
        page.get_by_role("button", name="Post").click()
    assert posted.value.headers["x-csrftoken"] == "the-token"


@pytest.mark.nightly
def test_alpine(site_server, page, package):
    [html], [script] = read_section("Alpine")
    bundle = package.bundle({"main.js": script})
    sign_in(page, site_server.url)
    ExamplePage(page, site_server.url, html + script_tags(bundle), bundle).open()
    wait_until_live(page)
    check_urls(page, site_server)
    expect(page.locator("#unseen")).to_have_text("1")


@pytest.mark.nightly
def test_react(site_server, page, package):
    hooks, component = blocks(DOCS / "how-to/react.md", "jsx")
    bundle = package.bundle({"main.jsx": component, "useNotifications.js": hooks})
    sign_in(page, site_server.url)
    html = '<div id="root"></div>' + script_tags(bundle)
    ExamplePage(page, site_server.url, html, bundle).open()
    wait_until_live(page)
    check_urls(page, site_server)
    expect(page.locator("#unseen")).to_have_text("1")


@pytest.mark.nightly
def test_front_end_with_a_fake_server(package, tmp_path):
    """Both tests of the page pass in Vitest, here without a DOM but for what the client uses of it."""
    files = blocks(DOCS / "how-to/bundlers.md", "js")[-2:]
    for block in files:
        (tmp_path / re.match(r"// (\S+)", block)[1]).write_text(block)
    (tmp_path / "setup.js").write_text(STUBS_OF_THE_PAGE)
    (tmp_path / "vitest.config.js").write_text('export default { test: { setupFiles: ["./setup.js"] } };')
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules/asyncsite-notifications").symlink_to(package.folder)
    (tmp_path / "node_modules/vitest").symlink_to((NODE_MODULES / "vitest").resolve())
    node = find_program("node", package="nodejs")
    output = run(node, NODE_MODULES / "vitest/vitest.mjs", "run", "--root", tmp_path, cwd=tmp_path)
    assert "2 passed" in output


@pytest.mark.nightly
def test_turbo(site_server, new_page):
    """The frame is reloaded when its job is done. Bell and connection stay over a visit, and a later form works."""
    page = new_page(errors=False)  # The policy of the site has no nonce, which allows Turbo's progress bar.
    [html], [on_done, on_submit] = read_section("Turbo")
    scripts = {
        "/example/turbo.js": library("@hotwired/turbo/dist/turbo.es2017-esm.js"),
        "/example/done.js": on_done,
        "/example/submit.js": on_submit,
    }
    form = (
        '<a href="/example/next/">Next</a><form data-job action="/reports/" method="post">'
        '<label>URLs <textarea name="urls"></textarea></label><button>Check</button>'
        '<output role="status"></output></form>'
    )
    html = html.replace("</head>", script_tags(["/example/done.js", "/example/submit.js"]) + "</head>")
    html = html.replace("</body>", form + "</body>")

    def serve_frame(route):
        if route.request.method != "GET":
            route.continue_()
            return
        rows = site_server.rows("SELECT id, state FROM notifications_job")
        jobs = "".join(
            f'<notifications-job job="{UUID(str(job))}" data-state="{state}"></notifications-job>'
            for job, state in rows
        )
        states = "".join(f"<p>Read as {state}</p>" for _, state in rows)
        route.fulfill(
            content_type="text/html", body=f'<turbo-frame id="reports">{jobs}{states}</turbo-frame>'
        )

    sign_in(page, site_server.url)
    page.route(f"{site_server.url}/reports/", serve_frame)
    ExamplePage(page, site_server.url, html, scripts).open()
    wait_until_live(page)
    page.evaluate("window.isKept = true")
    page.get_by_role("link", name="Next").click()
    page.wait_for_url("**/example/next/")
    assert page.evaluate("window.isKept")
    page.get_by_label("URLs").fill(f"{site_server.url}/upstream/slow?s=15\n{site_server.url}/upstream/ok")
    page.get_by_role("button", name="Check").click()
    output = page.locator("output")
    expect(output).to_have_text("1 of 2")
    page.evaluate("document.querySelector('turbo-frame').reload()")
    frame = page.locator("turbo-frame")
    expect(frame).to_contain_text("Read as running")
    expect(output).to_have_text("Done: 2 ok")
    expect(frame).to_contain_text("Read as succeeded")
    expect_unread(page, 1)
