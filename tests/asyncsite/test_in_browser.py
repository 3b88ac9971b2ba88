"""The pages of the site in Chromium."""

import re
from itertools import pairwise
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.browser.parts import expect_unseen
from tests.support.axe import find_violations
from tests.support.browser import sign_in

pytestmark = pytest.mark.browser


def submit_samples(page):
    """Submit the form with the samples, and return the URL of the report."""
    page.get_by_role("button", name="Try it with sample URLs").click()
    page.get_by_role("button", name="Check URLs").click()
    page.wait_for_url(re.compile(r"/reports/\d+/$"))
    return page.url


def wait_until_done(page):
    page.get_by_role("button", name="More").wait_for()  # A phone has the link to the CSV in it.


def read_outcome(page):
    wait_until_done(page)
    return page.locator("h2.state").inner_text()


def measure_overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@pytest.mark.smoke
def test_the_samples_run_with_live_progress(site_server, page):
    """The bar moves, and the page shows the result when the job is done."""
    sign_in(page, site_server.url)
    page.get_by_role("button", name="Try it with sample URLs").click()
    page.get_by_role("status").filter(has_text="40 URLs.").wait_for()
    page.get_by_role("button", name="Check URLs").click()
    page.wait_for_url(re.compile(r"/reports/\d+/$"))
    page.locator("progress:not([value='0'])").wait_for()
    page.locator(".calls tbody tr").first.wait_for()
    assert read_outcome(page) == "35 of 40 passed"
    assert page.locator(".filter a").all_inner_texts() == ["All 40", "Failed 4", "Refused 1", "Passed 35"]
    assert page.get_by_role("img", name="Response times of the calls").is_visible()
    assert page.locator(".calls").get_by_text("ended too early.").is_visible()
    page.get_by_role("link", name="Refused 1").click()
    page.locator(".calls").get_by_text("redirects to a URL that was not called").wait_for()
    assert page.locator(".calls tbody tr").count() == 1


@pytest.mark.nightly
def test_without_javascript(site_server, new_page):
    """The page reloads itself until the report is done."""
    page = new_page(java_script_enabled=False)
    sign_in(page, site_server.url)
    submit_samples(page)
    assert page.get_by_text("You can leave this page.").is_visible()
    assert read_outcome(page) == "35 of 40 passed"
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/accounts/login/")


@pytest.mark.nightly
def test_the_text_box_is_validated_while_typing(site_server, page):
    """It shows the number of URLs and the wrong lines. Samples are appended."""
    sign_in(page, site_server.url)
    box, count = page.get_by_label("URLs", exact=True), page.locator("#count")
    for typed, words in [
        ("https://a.example/", "1 URL."),
        ("https://a.example/\n\nnonsense\nhttps://b.example/", "2 URLs. Line 3 is not a URL."),
        ("x\n" * 8, "0 URLs. Lines 1, 2, 3, 4, 5 and 3 more are not URLs."),
        ("https://a.example/\n" * 1001, "1,001 URLs. A report takes at most 1,000."),
        ("https://a.example/", "1 URL."),
    ]:
        box.fill(typed)
        count.filter(has_text=re.compile(f"^{re.escape(words)}$")).wait_for()
    page.get_by_role("button", name="Try it with sample URLs").click()
    count.filter(has_text="41 URLs.").wait_for()
    assert box.input_value().startswith("https://a.example/\nhttp://127.0.0.1")


def test_the_button_does_not_move_while_typing(site_server, page):
    """The count appears above the button."""
    sign_in(page, site_server.url)
    button = page.get_by_role("button", name="Check URLs")
    before = button.bounding_box()
    page.get_by_label("URLs", exact=True).fill("https://example.com/\nhttps://example.org/")
    page.get_by_role("status").filter(has_text="2 URLs.").wait_for()
    assert button.bounding_box() == before


def test_deleting_a_report_needs_a_confirmation(site_server, new_page):
    """Without JavaScript. Escape and Enter cancel, because Cancel has the focus."""
    page = new_page(java_script_enabled=False)
    sign_in(page, site_server.url)
    page.get_by_label("URLs", exact=True).fill(f"{site_server.url}/upstream/ok?delete")
    page.get_by_role("button", name="Check URLs").click()
    wait_until_done(page)
    path = urlsplit(page.url).path
    dialog = page.get_by_role("dialog", name="Delete this report and 1 recorded call?")
    page.get_by_role("button", name="More", exact=True).click()
    for key in ("Escape", "Enter"):
        page.get_by_role("button", name="Delete…").click()
        dialog.wait_for()
        assert page.evaluate("document.activeElement.textContent") == "Cancel"
        page.keyboard.press(key)
        dialog.wait_for(state="hidden")
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("button", name="Delete report").click()
    page.wait_for_url("**/reports/")
    assert page.locator(f'a[href="{path}"]').count() == 0


def test_a_double_click_creates_one_report(site_server, page):
    sign_in(page, site_server.url)
    page.get_by_label("URLs", exact=True).fill(f"{site_server.url}/upstream/ok")
    page.get_by_role("button", name="Check URLs").dblclick(no_wait_after=True)
    wait_until_done(page)
    page.goto(f"{site_server.url}/reports/")
    assert page.locator(".reports tbody tr").count() == 1


def test_errors_get_the_focus_and_the_form_keeps_its_values(site_server, new_page):
    page = new_page(errors=False)  # Chromium logs the status 422.
    sign_in(page, site_server.url)
    page.get_by_label("URLs", exact=True).fill("https://a.example/\nnonsense")
    page.get_by_label("Title (optional)").fill("Mine")
    page.get_by_role("button", name="Check URLs").click()
    page.locator(".problem:focus").wait_for()
    assert page.get_by_label("URLs", exact=True).input_value() == "https://a.example/\nnonsense"
    assert page.get_by_label("Title (optional)").input_value() == "Mine"
    page.locator(".problem").get_by_role("link", name="URLs").click()
    assert page.evaluate("document.activeElement.id") == "id_urls"
    page.context.clear_cookies(name="sessionid")  # The session expires: they are there after the sign-in.
    page.get_by_role("button", name="Check URLs").click()
    page.get_by_label("Username").fill("demo")
    page.get_by_label("Password").fill("demo")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_label("URLs", exact=True)).to_have_value("https://a.example/\nnonsense")
    expect(page.get_by_label("Title (optional)")).to_have_value("Mine")


@pytest.mark.nightly
def test_a_fast_and_a_slow_check(site_server, page):
    """A fast one shows its result, a slow one its report."""
    sign_in(page, site_server.url)
    page.get_by_role("link", name="Check one URL").click()
    page.get_by_label("URL", exact=True).fill(f"{site_server.url}/upstream/json")
    page.get_by_role("button", name="Check URL").click()
    page.get_by_role("heading", name="Result").wait_for()
    assert page.get_by_text("application/json").is_visible()
    page.get_by_label("URL", exact=True).fill(f"{site_server.url}/upstream/slow?s=3")
    page.get_by_role("button", name="Check URL").click()
    page.wait_for_url(re.compile(r"/reports/\d+/$"))
    assert read_outcome(page) == "1 of 1 passed"


def test_no_horizontal_scrolling_at_320_pixels(site_server, new_page):
    """Long URLs and titles wrap."""
    page = new_page(errors=False, viewport={"width": 320, "height": 640})
    sign_in(page, site_server.url)
    assert measure_overflow(page) <= 0
    page.get_by_label("URLs", exact=True).fill("nonsense" * 50)
    page.get_by_role("button", name="Check URLs").click()
    page.locator(".problem").wait_for()
    assert measure_overflow(page) <= 0
    page.get_by_label("URLs", exact=True).fill(f"{site_server.url}/upstream/status/404?" + "x" * 1500)
    page.get_by_label("Title (optional)").fill("W" * 200)
    page.get_by_role("button", name="Check URLs").click()
    wait_until_done(page)
    assert measure_overflow(page) <= 0
    page.keyboard.press("Tab")
    page.locator(".calls .url").focus()
    assert measure_overflow(page) <= 0
    page.goto(f"{site_server.url}/reports/")
    assert measure_overflow(page) <= 0


@pytest.mark.nightly
def test_a_truncated_url_is_complete_on_focus(site_server, page):
    sign_in(page, site_server.url)
    url = f"{site_server.url}/upstream/ok?{'x' * 200}"
    page.get_by_label("URLs", exact=True).fill(url)
    page.get_by_role("button", name="Check URLs").click()
    wait_until_done(page)
    link = page.locator(".calls .url")
    assert link.get_attribute("title") == url
    assert "…" in link.locator(".cut").inner_text() and link.locator(".cut").is_visible()
    page.get_by_role("link", name="Size").focus()
    page.keyboard.press("Tab")
    assert not link.locator(".cut").is_visible()
    assert link.locator(".whole").bounding_box()["width"] > 200


def test_uploading_a_file(site_server, new_page, tmp_path):
    """The file is validated when it is chosen. After an error the text box keeps its value."""
    page = new_page(errors=False)  # Chromium logs the status 422.
    sign_in(page, site_server.url)
    file, status = page.get_by_label("File (optional)", exact=True), page.locator("#file-count")
    big, wrong, good = tmp_path / "big.txt", tmp_path / "wrong.txt", tmp_path / "good.csv"
    big.write_text("\n" * (3 * 1024 * 1024 + 1))
    wrong.write_text(f"{site_server.url}/upstream/ok\nnonsense\n")
    good.write_text(
        f'name,url\n"One, two",{site_server.url}/upstream/ok\nThree,{site_server.url}/upstream/json\n'
    )
    file.set_input_files(big)
    status.filter(has_text="This file is 3.2 MB. The limit is 3 MB.").wait_for()
    page.get_by_role("button", name="Check URLs").click()  # It is not sent.
    expect(file).to_be_focused()
    file.set_input_files(wrong)
    status.filter(has_text="1 URL. Line 2 is not a URL.").wait_for()
    page.get_by_label("URLs", exact=True).fill(f"{site_server.url}/upstream/status/404")
    page.get_by_role("button", name="Check URLs").click()
    page.locator(".problem:focus").get_by_text(
        "Line 2 does not begin with http:// or https://: nonsense"
    ).wait_for()
    page.locator(".problem").get_by_role("link", name="File (optional)").click()
    assert page.evaluate("document.activeElement.id") == "id_file"
    assert page.get_by_label("URLs", exact=True).input_value().endswith("/upstream/status/404")
    file.set_input_files(good)
    assert status.inner_text() == ""
    page.get_by_role("button", name="Check URLs").click()
    page.wait_for_url(re.compile(r"/reports/\d+/$"))
    assert read_outcome(page) == "2 of 3 passed"


@pytest.mark.nightly
def test_a_running_report_grows_without_a_reload(site_server, page):
    """Failed calls appear as they end, at most once a second, others at the end. What is typed and focused stays."""
    sign_in(page, site_server.url)
    urls = [f"{site_server.url}/upstream/status/404", *site_server.held_urls(12)]
    page.get_by_label("URLs", exact=True).fill("\n".join(urls))
    page.get_by_role("button", name="Check URLs").click()
    page.wait_for_url(re.compile(r"/reports/\d+/$"))
    page.evaluate("window.isKept = true")
    page.locator(".calls tbody tr").first.wait_for()
    assert page.get_by_role("button", name="Cancel").is_visible()
    page.get_by_role("searchbox", name="Search in URLs and errors").fill("typed")
    for count in (4, 8):
        site_server.release(count)
        page.get_by_text(f"{count + 1} of 13 checked", exact=True).wait_for()
        assert page.locator(".calls tbody tr").count() == 1
    site_server.release()
    page.get_by_role("button", name="More").wait_for()  # A phone has the link to the CSV in it.
    assert page.locator(".calls tbody tr").count() == 13
    assert page.locator(".outcome").first.inner_text() == "failed"
    assert page.get_by_role("searchbox", name="Search in URLs and errors").input_value() == "typed"
    assert page.evaluate("document.activeElement.name") == "q"
    assert page.evaluate("window.isKept"), "The page was reloaded."
    times = page.evaluate(
        "performance.getEntriesByType('resource').filter(({ name }) => name.includes('/content/'))"
        ".map(({ startTime }) => startTime)"
    )
    assert len(times) >= 2
    assert all(later - earlier > 990 for earlier, later in pairwise(times))


def test_the_list_of_reports_is_live(site_server, page):
    sign_in(page, site_server.url)
    page.get_by_label("URLs", exact=True).fill("\n".join(site_server.held_urls(3)))
    page.get_by_role("button", name="Check URLs").click()
    page.wait_for_url(re.compile(r"/reports/\d+/$"))
    page.get_by_role("link", name="Reports", exact=True).first.click()
    page.evaluate("window.isKept = true")
    row = page.locator(".reports tbody tr")
    site_server.release(1)
    row.filter(has_text="Running · 1 of 3").wait_for()
    site_server.release()
    row.filter(has_text="3 of 3 passed").wait_for()
    assert page.evaluate("window.isKept")


def test_your_reports_are_on_the_first_screen(site_server, new_page):
    page = new_page(viewport={"width": 1280, "height": 800})
    sign_in(page, site_server.url)
    box = page.get_by_role("heading", name="Your reports").bounding_box()
    assert box["y"] + box["height"] < 600


def test_a_check_says_at_once_that_it_works(site_server, page):
    """Within the task of the submit event, while the call takes a second."""
    sign_in(page, site_server.url)
    page.goto(f"{site_server.url}/check/")
    page.wait_for_function("async () => Boolean((await window.notifications?.ready)?.client)")
    page.get_by_label("URL", exact=True).fill(f"{site_server.url}/upstream/slow?s=1")
    text = page.evaluate(
        "() => { const form = document.querySelector('main form'); form.requestSubmit();"
        " return form.querySelector('[role=status]').textContent; }"
    )
    assert text == "Calling the URL…"
    page.get_by_role("heading", name="Result").wait_for()


@pytest.mark.nightly
def test_a_report_is_published_by_the_answer_on_a_phone(site_server, new_page):
    """Asked on laptop and phone at once, answered on one; the other shows it, and the link works signed out."""
    # A toast that fades in has too little contrast for a moment.
    laptop = sign_in(new_page(reduced_motion="reduce"), site_server.url)
    phone = sign_in(new_page(viewport={"width": 380, "height": 700}), site_server.url)
    phone.goto(submit_samples(laptop))
    wait_until_done(laptop)
    wait_until_done(phone)
    laptop.get_by_role("button", name="More", exact=True).click()
    laptop.get_by_role("button", name="Publish…").click()
    for page in (laptop, phone):
        page.get_by_text("Publish this report?").wait_for()
    assert find_violations(laptop) == []
    # On the laptop, the page that was left after the click may have shown the toast.
    laptop.get_by_role("button", name=re.compile("1 waiting for your answer$")).wait_for()
    phone.locator(".notifications-toast").get_by_role("button", name=re.compile("^Publish: ")).click()
    for page in (laptop, phone):  # Whoever has answered is not told what follows from it.
        page.get_by_role("link", name="public page").wait_for()
        expect(page.locator(".notifications-toast")).to_have_count(0)
        expect_unseen(page, 0)
    link = laptop.get_by_role("link", name="public page").get_attribute("href")
    guest = new_page()
    guest.goto(site_server.url + link)
    expect(guest.get_by_role("heading", name="35 of 40 passed")).to_be_visible()
    expect(guest.get_by_text("4 failed, 1 refused")).to_be_visible()
    assert find_violations(guest) == []
    laptop.get_by_role("button", name="More", exact=True).click()
    laptop.get_by_role("button", name="Make private").click()
    laptop.get_by_role("button", name="More", exact=True).click()
    laptop.get_by_role("button", name="Publish…").wait_for()
