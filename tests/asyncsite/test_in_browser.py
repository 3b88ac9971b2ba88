"""The site as a person sees it, in Chromium."""

import re
from urllib.parse import urlsplit

import pytest

from tests.support.browser import sign_in

pytestmark = pytest.mark.browser


def ask_for_samples(page):
    """Fill the form with the samples, send it, and return the address of the report."""
    page.get_by_role("button", name="Try it with sample URLs").click()
    page.get_by_role("button", name="Check URLs").click()
    page.wait_for_url(re.compile(r"/reports/\d+/$"))
    return page.url


def totals(page):
    page.locator(".totals").wait_for()
    names, values = page.locator(".totals dt").all_inner_texts(), page.locator(".totals dd").all_inner_texts()
    return dict(zip(names, values, strict=True))


def overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def test_a_person_tries_the_samples_and_watches(site_server, page):
    """The bar moves, and the page shows the outcome by itself when it is done."""
    sign_in(page, site_server.url)
    page.get_by_role("button", name="Try it with sample URLs").click()
    page.get_by_role("status").filter(has_text="40 URLs.").wait_for()
    page.get_by_role("button", name="Check URLs").click()
    page.wait_for_url(re.compile(r"/reports/\d+/$"))
    page.locator("notifications-progress progress:not([value='0'])").wait_for()
    counts = totals(page)
    assert (counts["Ok"], counts["Failed"], counts["Refused"]) == ("35", "4", "1")
    assert page.get_by_role("img", name="Response times of the calls").is_visible()
    assert page.get_by_text("ended too early.").is_visible()
    page.get_by_role("link", name="Refused 1").click()
    page.get_by_text("redirects to a URL that was not called").wait_for()
    assert page.locator(".calls tbody tr").count() == 1


def test_without_javascript(site_server, new_page):
    """The same way, with a page that loads itself again until the report is done."""
    page = new_page(java_script_enabled=False)
    sign_in(page, site_server.url)
    ask_for_samples(page)
    assert page.get_by_text("You can leave this page.").is_visible()
    assert totals(page)["Ok"] == "35"
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/accounts/login/")


def test_the_box_says_what_it_holds_before_it_is_sent(site_server, page):
    """How many URLs, and which lines are none; samples are added to what was typed."""
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


def test_the_button_stays_where_it_is_while_the_box_is_filled(site_server, page):
    """A count that appears above the button must not take it away from under the pointer."""
    sign_in(page, site_server.url)
    button = page.get_by_role("button", name="Check URLs")
    before = button.bounding_box()
    page.get_by_label("URLs", exact=True).fill("https://example.com/\nhttps://example.org/")
    page.get_by_role("status").filter(has_text="2 URLs.").wait_for()
    assert button.bounding_box() == before


def test_a_report_is_deleted_after_a_question(site_server, new_page):
    """Also without JavaScript. Escape leaves it, and so does Enter, because Cancel has the focus."""
    page = new_page(java_script_enabled=False)
    sign_in(page, site_server.url)
    page.get_by_label("URLs", exact=True).fill(f"{site_server.url}/upstream/ok?delete")
    page.get_by_role("button", name="Check URLs").click()
    page.locator(".totals").wait_for()
    path = urlsplit(page.url).path
    question = page.get_by_role("dialog", name="Delete this report and 1 recorded call?")
    for leave in ("Escape", "Enter"):
        page.get_by_role("button", name="Delete…").click()
        question.wait_for()
        assert page.evaluate("document.activeElement.textContent") == "Cancel"
        page.keyboard.press(leave)
        question.wait_for(state="hidden")
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("button", name="Delete report").click()
    page.wait_for_url("**/reports/")
    assert page.locator(f'a[href="{path}"]').count() == 0


def test_a_double_click_asks_once(site_server, page):
    sign_in(page, site_server.url)
    page.get_by_label("URLs", exact=True).fill(f"{site_server.url}/upstream/ok")
    page.get_by_role("button", name="Check URLs").dblclick(no_wait_after=True)
    page.locator(".totals").wait_for()
    page.goto(f"{site_server.url}/reports/")
    assert page.locator(".reports tbody tr").count() == 1


def test_wrong_lines_take_the_focus_and_keep_what_was_typed(site_server, new_page):
    page = new_page(errors=False)  # Chromium logs the status 422
    sign_in(page, site_server.url)
    page.get_by_label("URLs", exact=True).fill("https://a.example/\nnonsense")
    page.get_by_label("Title (optional)").fill("Mine")
    page.get_by_role("button", name="Check URLs").click()
    page.locator(".problem:focus").wait_for()
    assert page.get_by_label("URLs", exact=True).input_value() == "https://a.example/\nnonsense"
    assert page.get_by_label("Title (optional)").input_value() == "Mine"
    page.locator(".problem").get_by_role("link", name="URLs").click()
    assert page.evaluate("document.activeElement.id") == "id_urls"


def test_a_quick_check_and_one_that_takes_longer(site_server, page):
    """The answer at once, or a page that will have it."""
    sign_in(page, site_server.url)
    page.get_by_role("link", name="Check one URL").click()
    page.get_by_label("URL", exact=True).fill(f"{site_server.url}/upstream/json")
    page.get_by_role("button", name="Check URL").click()
    page.get_by_role("heading", name="Result").wait_for()
    assert page.get_by_text("application/json").is_visible()
    page.get_by_label("URL", exact=True).fill(f"{site_server.url}/upstream/slow?s=3")
    page.get_by_role("button", name="Check URL").click()
    page.wait_for_url(re.compile(r"/reports/\d+/$"))
    assert totals(page)["Ok"] == "1"


def test_320_pixels_are_enough(site_server, new_page):
    """No page scrolls sideways, whatever a URL or a title is like."""
    page = new_page(errors=False, viewport={"width": 320, "height": 640})
    sign_in(page, site_server.url)
    assert overflow(page) <= 0
    page.get_by_label("URLs", exact=True).fill("nonsense" * 50)
    page.get_by_role("button", name="Check URLs").click()
    page.locator(".problem").wait_for()
    assert overflow(page) <= 0
    page.get_by_label("URLs", exact=True).fill(f"{site_server.url}/upstream/status/404?" + "x" * 1500)
    page.get_by_label("Title (optional)").fill("W" * 200)
    page.get_by_role("button", name="Check URLs").click()
    page.locator(".totals").wait_for()
    assert overflow(page) <= 0
    page.keyboard.press("Tab")
    page.locator(".calls .url").focus()
    assert overflow(page) <= 0
    page.goto(f"{site_server.url}/reports/")
    assert overflow(page) <= 0


def test_a_cut_url_is_whole_when_it_has_the_focus(site_server, page):
    sign_in(page, site_server.url)
    url = f"{site_server.url}/upstream/ok?{'x' * 200}"
    page.get_by_label("URLs", exact=True).fill(url)
    page.get_by_role("button", name="Check URLs").click()
    page.locator(".totals").wait_for()
    link = page.locator(".calls .url")
    assert link.get_attribute("title") == url
    assert "…" in link.locator(".cut").inner_text() and link.locator(".cut").is_visible()
    page.get_by_role("link", name="Refused 0").focus()
    page.keyboard.press("Tab")
    assert not link.locator(".cut").is_visible()
    assert link.locator(".whole").bounding_box()["width"] > 200


def test_a_file_instead_of_the_box(site_server, new_page, tmp_path):
    """The page says what it holds; after an error the box still has what was typed, and the file is asked for again."""
    page = new_page(errors=False)  # Chromium logs the status 422
    sign_in(page, site_server.url)
    file, said = page.get_by_label("File (optional)", exact=True), page.locator("#file-count")
    big, wrong, good = tmp_path / "big.txt", tmp_path / "wrong.txt", tmp_path / "good.csv"
    big.write_text("\n" * (3 * 1024 * 1024 + 1))
    wrong.write_text(f"{site_server.url}/upstream/ok\nnonsense\n")
    good.write_text(
        f'name,url\n"One, two",{site_server.url}/upstream/ok\nThree,{site_server.url}/upstream/json\n'
    )
    file.set_input_files(big)
    said.filter(has_text="The file has 3,145,729 bytes. The limit is 3,145,728.").wait_for()
    file.set_input_files(wrong)
    said.filter(has_text="1 URL. Line 2 is not a URL.").wait_for()
    page.get_by_label("URLs", exact=True).fill(f"{site_server.url}/upstream/status/404")
    page.get_by_role("button", name="Check URLs").click()
    page.locator(".problem:focus").get_by_text(
        "Line 2 does not begin with http:// or https://: nonsense"
    ).wait_for()
    page.locator(".problem").get_by_role("link", name="File (optional)").click()
    assert page.evaluate("document.activeElement.id") == "id_file"
    assert page.get_by_label("URLs", exact=True).input_value().endswith("/upstream/status/404")
    file.set_input_files(good)
    assert said.inner_text() == ""
    page.get_by_role("button", name="Check URLs").click()
    page.wait_for_url(re.compile(r"/reports/\d+/$"))
    counts = totals(page)
    assert (counts["Ok"], counts["Failed"]) == ("2", "1")
