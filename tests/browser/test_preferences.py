"""Preferences are saved as they are changed, with Undo, on a phone too."""

import os
from itertools import product
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.parts import sign_in_over_http, visit, wait_until_live
from tests.browser.test_touch import FIND_SMALL, PHONE
from tests.support.axe import find_violations

pytestmark = pytest.mark.browser

PAGE = "/notifications/preferences/"
DELIVERY = {
    "SITE_URL": "https://site.example",
    "DELIVERY": {"*": [{"email": 600}]},
    "CATEGORIES": {"job": {}},
}


@pytest.fixture(autouse=True)
def site_with_email(site):
    site.notifications |= DELIVERY


#: Where an element is in the page.
TOP = "(element) => element.getBoundingClientRect().top + scrollY"


def test_quiet_hours_on_a_phone(site_server, new_page):
    """In two presses from the inbox, and another for a day without them. What is saved is there after a reload."""
    page = new_page(**PHONE)
    visit(page, site_server.url, "/notifications/")
    page.locator(".notifications-heading").get_by_role("link", name="Preferences").tap()
    expect(page.get_by_role("button", name="Save", exact=True)).to_have_count(0)
    below = page.get_by_role("heading", name="Daily and weekly messages")
    before = below.evaluate(TOP)
    assert page.evaluate(FIND_SMALL, ".notifications-week") == []
    page.get_by_role("button", name="Every night, 10 p.m. to 7 a.m. in").tap()
    monday = page.get_by_role("checkbox", name="Monday")
    expect(monday).to_be_checked()
    expect(page.get_by_role("button", name="Undo")).to_be_visible()
    assert below.evaluate(TOP) == before, "it has moved"
    with page.expect_response(lambda response: response.request.method != "GET"):
        monday.tap()
    status = page.locator(".notifications-saved")
    expect(status).to_contain_text("Saved.")
    expect(status).to_be_in_viewport()
    page.reload()
    expect(monday).not_to_be_checked()
    assert below.evaluate(TOP) == before, "a button is gone"
    tuesday = page.get_by_role("checkbox", name="Tuesday")
    tuesday.tap()
    status.get_by_role("button", name="Undo").tap()
    expect(status).to_have_text("Undone.")
    expect(tuesday).to_be_checked()
    page.reload()
    expect(tuesday).to_be_checked()
    expect(monday).not_to_be_checked()
    page.evaluate("document.documentElement.dir = 'rtl'")
    name, heading = page.locator("th bdi").first.bounding_box(), page.locator("h1").bounding_box()
    assert name["x"] + name["width"] == pytest.approx(heading["x"] + heading["width"], abs=1)


def test_the_first_quiet_hours_are_in_the_zone_of_the_browser(site_server, new_page):
    """It is named beside them. One that was chosen stays, and Undo restores that of the site."""
    page = visit(new_page(timezone_id="Asia/Tokyo"), site_server.url, PAGE)
    nights = page.get_by_role("button", name="Every night, 10 p.m. to 7 a.m. in Tokyo", exact=True)
    zone, status = page.get_by_role("combobox", name="Time zone"), page.locator(".notifications-saved")
    expect(page.get_by_text("The times are those of Tokyo.")).to_be_visible()
    expect(zone).to_have_value("")
    nights.click()
    expect(status).to_contain_text("Saved.")
    expect(zone).to_have_value("Asia/Tokyo")
    status.get_by_role("button", name="Undo").click()
    expect(status).to_have_text("Undone.")
    expect(zone).to_have_value("")
    nights.click()
    expect(status).to_contain_text("Saved.")
    page.reload()
    expect(zone).to_have_value("Asia/Tokyo")
    zone.select_option("America/New_York")
    expect(page.get_by_text("The times are those of New York.")).to_be_visible()
    expect(status).to_contain_text("Saved.")
    page.get_by_role("checkbox", name="Monday").click()
    expect(page.get_by_role("checkbox", name="Monday")).not_to_be_checked()
    page.reload()
    expect(page.get_by_text("The times are those of New York.")).to_be_visible()
    expect(zone).to_have_value("America/New_York")


def answer_requests(page, url, answer):
    """Answer requests to a URL with these arguments of `fulfill()`, or with None as a lost network."""
    page.unroute_all()
    page.route(url, lambda route: route.abort() if answer is None else route.fulfill(**answer))


@pytest.mark.nightly
def test_what_cannot_be_saved_stays_as_it_was(site_server, new_page):
    page = new_page(errors=False)
    visit(page, site_server.url, PAGE)
    hour = page.get_by_role("combobox", name="Hour")
    status = page.locator(".notifications-saved")
    out, refused = "Not saved. Can't reach the server.", "Not saved. Load this page again"
    for answer, text in (
        (None, out),
        (403, refused),
        (None, out),
        (409, refused),
        (None, out),
        (500, refused),
    ):
        answer_requests(page, f"**{PAGE}?*", answer and {"status": answer})
        hour.select_option("3")
        expect(status).to_contain_text(text)
        expect(hour).to_have_value("8")
    page.unroute_all()
    hour.select_option("3")
    expect(status).to_contain_text("Saved.")
    page.reload()
    expect(hour).to_have_value("3")


def sign_out(page, site):
    """Sign out in another tab."""
    other = page.context.new_page()
    other.goto(f"{site.url}/check/")
    other.get_by_role("button", name="Sign out").click()
    expect(other.get_by_role("button", name="Sign out")).to_have_count(0)
    other.close()


def test_what_is_chosen_while_signed_out_is_saved_later(site_server, new_page):
    """The page says that it is not saved, keeps it, and saves it when its user is back: here, or in another tab."""
    page = new_page(errors=False)
    visit(page, site_server.url, PAGE)
    hour, zone = page.get_by_role("combobox", name="Hour"), page.get_by_role("combobox", name="Time zone")
    status = page.locator(".notifications-saved")
    monday = page.get_by_role("checkbox", name="Monday")
    sign_out(page, site_server)
    hour.select_option("3")
    expect(status).to_contain_text("Not saved yet. You are signed out.")
    zone.select_option("Europe/Paris")
    monday.check()
    expect(status).to_contain_text("Not saved yet. You are signed out.")
    expect(hour).to_have_value("3")
    if folder := os.environ.get("SCREENSHOTS"):
        for scheme, width in product(("light", "dark"), (360, 1280)):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 900})
            page.screenshot(path=Path(folder) / f"signed_out_{width}_{scheme}.png")
        page.set_viewport_size({"width": 1280, "height": 900})
    assert find_violations(page) == []
    status.get_by_role("link", name="Sign in").click()
    page.get_by_label("Username").fill("demo")
    page.get_by_label("Password").fill("demo")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"**{PAGE}")
    expect(status).to_contain_text("Saved.")
    page.reload()
    expect(hour).to_have_value("3")
    expect(zone).to_have_value("Europe/Paris")
    expect(monday).to_be_checked()
    sign_out(page, site_server)
    hour.select_option("5")
    expect(status).to_contain_text("Not saved yet. You are signed out.")
    sign_in_over_http(page.context, site_server.url, "demo")
    monday.uncheck()  # It sends what was not saved, too.
    expect(status).to_contain_text("Saved.")
    page.reload()
    expect(hour).to_have_value("5")
    expect(monday).not_to_be_checked()


def test_a_slow_request_for_what_was_chosen_while_signed_out_is_not_cut_off(site_server, new_page):
    """The page that is live before the response has arrived stays, and is not loaded again to save the same."""
    page = new_page(errors=False)
    visit(page, site_server.url, PAGE)
    hour = page.get_by_role("combobox", name="Hour")
    sign_out(page, site_server)
    hour.select_option("3")
    expect(page.locator(".notifications-saved")).to_contain_text("Not saved yet. You are signed out.")
    sign_in_over_http(page.context, site_server.url, "demo")
    requests, loads = [], []

    def hold(route):
        if route.request.method != "POST":
            return route.continue_()
        requests.append(route)

    page.route(f"**{PAGE}*", hold)
    page.on("load", lambda _: loads.append(page.url))
    page.goto(site_server.url + PAGE)
    wait_until_live(page)
    requests[0].continue_()
    expect(page.locator(".notifications-saved")).to_contain_text("Saved.")
    assert (len(requests), len(loads)) == (1, 1)
    page.reload()
    expect(hour).to_have_value("3")


def test_what_another_user_has_chosen_is_not_theirs(site_server, new_page):
    """Nothing of the page is saved for a user who has signed in since, nor what was chosen on it."""
    page = new_page(errors=False)
    visit(page, site_server.url, PAGE)
    hour = page.get_by_role("combobox", name="Hour")
    page.context.clear_cookies()
    sign_in_over_http(page.context, site_server.url, "admin")
    hour.select_option("3")
    expect(page.locator(".notifications-saved")).to_contain_text("Not saved yet. You are signed out.")
    page.goto(site_server.url + PAGE)
    wait_until_live(page)
    expect(hour).to_have_value("8")
    assert site_server.rows("SELECT user_id FROM notifications_deliveries_reader") == []


@pytest.mark.nightly
def test_without_scripts_a_button_saves(site_server, new_page):
    page = new_page(java_script_enabled=False)
    sign_in_over_http(page.context, site_server.url, "demo")
    page.goto(site_server.url + PAGE)
    page.get_by_role("combobox", name="Hour").select_option("3")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Your preferences are saved.")).to_be_visible()
    expect(page.get_by_role("combobox", name="Hour")).to_have_value("3")
    page.get_by_text("Turn off for a time").first.click()
    page.get_by_role("button", name="For a week").first.click()
    expect(page.get_by_text("Off until")).to_be_visible()
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "preferences_off.png", full_page=True)


@pytest.mark.skipif("SCREENSHOTS" not in os.environ, reason="SCREENSHOTS names no folder for pictures.")
def test_pictures(site_server, new_page):
    for scheme, width in product(("light", "dark"), (360, 1280)):
        page = new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
        visit(page, site_server.url, PAGE)
        page.get_by_role("checkbox", name="Friday").click()
        expect(page.locator(".notifications-saved")).to_contain_text("Saved.")
        folder = Path(os.environ["SCREENSHOTS"])
        page.screenshot(path=folder / f"preferences_{width}_{scheme}.png", full_page=True)
