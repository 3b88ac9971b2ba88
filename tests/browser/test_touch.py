"""Without a mouse: every control is large enough for a finger, and the verbs of a row can be reached."""

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.all_pages import COMPOSER_PART, find_job, open_composer
from tests.browser.parts import create_report, open_bell, visit, wait_until_live
from tests.support.browser import sign_in
from tests.support.layout_shift import MAX_SHIFT, read_shifts, record_shifts
from tests.support.text_rectangles import PHONE_WIDTHS, find_text_problems
from tests.support.waiting import wait_until

pytestmark = pytest.mark.browser

PHONE = {"viewport": {"width": 380, "height": 800}, "has_touch": True, "is_mobile": True}
#: Where the text of a node begins.
FIND_TEXT = """(node) => {
    const range = document.createRange();
    range.selectNodeContents(node);
    return range.getBoundingClientRect().left;
}"""

#: Controls that are less than 44 px high or wide, and pairs with less than 8 px between them. A checkbox is as large as
#: its label; a title whose link covers its row is as large as the row, and no neighbor of what lies on it; rows touch.
#: Links in running text are as high as its lines; one without words beside it is not in running text. Django makes
#: lists of links in the admin, and the checkbox that selects all rows.
FIND_SMALL = """(part) => {
    const size = 44, space = 8, tolerance = 0.5;
    const hasWords = (block) => [...block?.querySelectorAll("a, .notifications-hidden") ?? []]
        .reduce((text, node) => text.replace(node.textContent, ""), block?.textContent ?? "").match(/\\p{L}/u);
    const isInText = (node) => node.matches("a") && !node.closest(".notifications-actions, nav, [class*=button]")
        && (part || hasWords(node.closest("p, dd, td, li:not(.notifications-item), h1, figcaption")));
    const isClipped = (node) => node && (getComputedStyle(node).clipPath !== "none" || isClipped(node.parentElement));
    const layer = ({ node }) => {
        const floating = node.closest("dialog, notifications-toasts, .notifications-toolbar, .notifications-panel");
        return floating && /fixed|sticky/.test(getComputedStyle(floating).position) ? floating : null;
    };
    // By a bar or a panel that floats over the page.
    const isCovered = ({ node, box: { left, right, top, bottom } }) => {
        const hit = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
        const cover = hit && layer({ node: hit });
        // The link below the list of the bell lies over its last visible row.
        const foot = hit?.closest(".notifications-foot");
        return (cover && cover !== layer({ node })) || (foot && foot !== node);
    };
    const area = (node) => node.matches(".notifications-title") ? node.closest("li, .notifications-toast") ?? node
        : node.matches("[type=checkbox], [type=radio]") ? node.labels[0] ?? node : node;
    const selector = "a[href], button, input:not([type=hidden]), select, textarea, summary";
    const controls = [...document.querySelector(part ?? "body").querySelectorAll(selector)]
        .filter((node) => node.checkVisibility({ opacityProperty: true, visibilityProperty: true }))
        .filter((node) => !node.closest(".skip, .notifications-hidden, #action-toggle"))
        .filter((node) => !isInText(node) && !isClipped(node));
    const boxes = controls.map((node) => ({ node, area: area(node), box: area(node).getBoundingClientRect() }))
        .filter((control) => control.box.width && control.box.height && !isCovered(control));
    const name = ({ node, box }) =>
        `<${node.localName} class="${node.className}">${node.ariaLabel ?? node.textContent.trim().slice(0, 30)} ` +
        `${box.width.toFixed(1)} x ${box.height.toFixed(1)} at ${box.left.toFixed(1)}, ${box.top.toFixed(1)}`;
    const found = boxes.filter(({ box }) => box.width < size - tolerance || box.height < size - tolerance).map(name);
    // What scrolls below the link at the end of the bell is covered by it in part.
    const isRow = ({ node }) => node.matches(".notifications-title, .notifications-foot, .notifications-sheet *");
    for (const [index, first] of boxes.entries())
        for (const second of boxes.slice(index + 1)) {
            if (isRow(first) || isRow(second) || layer(first) !== layer(second)) continue;
            const x = Math.max(first.box.left, second.box.left) - Math.min(first.box.right, second.box.right);
            const y = Math.max(first.box.top, second.box.top) - Math.min(first.box.bottom, second.box.bottom);
            if (Math.max(x, y) < space - tolerance && first.area !== second.area)
                found.push(`${name(first)} and ${name(second)}: ${Math.max(x, y).toFixed(1)} px apart`);
        }
    if (!part && document.documentElement.scrollWidth > screen.width)
        found.push(`${document.documentElement.scrollWidth} px wide`);
    return found;
}"""

#: The link of the inbox to what is new, and whether the middle of an element is covered by no other.
NEWS = "notifications-inbox .notifications-news"
IS_FREE = """(node) => { const { left, top, width, height } = node.getBoundingClientRect();
    return node.contains(document.elementFromPoint(left + width / 2, top + height / 2)); }"""


CREATE_TWO_NOTIFICATIONS = """
from django.contrib.auth import get_user_model
from notifications.api import notify
user = get_user_model().objects.get(username="demo")
notify(user, "4 von 40 Aufrufen der Partner-Schnittstellen fehlgeschlagen", body="36 gingen gut.", level="error")
for n in (58, 59): notify(user, f"Number {n}", body="Nearly as long as a phone is wide", category="reports")
"""


ASK_FOUR = """
from tests.contrib.questions import question_tasks
for number in range(4): question_tasks.ask_sync.using(owner=user).enqueue()
"""


#: The edges of a sheet that stay where they are, whatever it has.
MEASURE_SHEET = """async (sheet) => {
    await Promise.all(sheet.getAnimations().map((animation) => animation.finished));
    const { left, right, bottom } = sheet.getBoundingClientRect();
    return [left, right, bottom];
}"""

#: Titles and bodies of rows whose end is not shown.
FIND_CUT_TEXTS = """(row) => [...document.querySelectorAll(`${row} :is(.notifications-title, .notifications-body)`)]
    .filter((title) => title.scrollHeight > title.clientHeight + 1).map((title) => title.textContent)"""

#: How many lines the body of a row has.
COUNT_LINES = """(body) => {
    const range = document.createRange();
    range.selectNodeContents(body);
    return new Set([...range.getClientRects()].map(({ top }) => Math.round(top))).size;
}"""


@pytest.fixture
def phone(new_page):
    return new_page(**PHONE)


def shoot(page, name):
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"touch-{name}.png")


def test_every_control_is_large_enough(site_server, new_page):
    """44 px in both directions, and 8 px apart, with a selection, the sheet of a row and the open bell, in German.

    No text is cut, and the head of the bell is one line. tests/browser/test_layout_shift.py looks at each page.
    """
    phone, found = new_page(**PHONE, locale="de"), {}
    site_server.python(CREATE_TWO_NOTIFICATIONS)
    visit(phone, site_server.url, "/notifications/")

    def look(name):
        found[name] = phone.evaluate(FIND_SMALL)
        shoot(phone, name)
        found[name] += find_text_problems(phone, PHONE_WIDTHS)

    rows = "(rows) => rows.map((row) => row.getBoundingClientRect()).map(({ left, right }) => [left, right])"
    edges = phone.locator("notifications-inbox li").evaluate_all(rows)
    assert set(map(tuple, edges)) == {(0, 380)}, "the tint of a row ends before the edges of the screen"
    look("inbox")
    found["inbox"] += phone.evaluate(FIND_CUT_TEXTS, "notifications-inbox")
    body = phone.locator("li .notifications-body", has_text="Nearly as long").first
    assert body.evaluate(COUNT_LINES) == 1, "the time takes room from it"
    phone.locator(".notifications-menu").first.tap()
    dialog = phone.get_by_role("dialog")
    expect(dialog).to_be_visible()
    look("sheet")
    sheet = dialog.evaluate(MEASURE_SHEET)
    phone.keyboard.press("Escape")
    phone.locator("[name=id]").first.check()
    look("selection")
    bar = phone.locator(".notifications-toolbar")
    assert bar.bounding_box()["height"] <= 64, "the words of a button are more than one line"
    for width in PHONE_WIDTHS:
        phone.set_viewport_size({"width": width, "height": 800})
        assert bar.evaluate("(bar) => bar.scrollWidth <= bar.clientWidth"), f"the bar scrolls at {width} px"
    words = bar.locator("[name=verb][value=read] span")
    words.evaluate("(words) => { words.textContent = 'Non lue'; }")  # As in French.
    assert words.bounding_box()["height"] < 24, "two lines"
    phone.set_viewport_size({"width": 820, "height": 800})
    edges = "(node) => [node.getBoundingClientRect().left, node.getBoundingClientRect().right]"
    tablet = [phone.locator(part).first.evaluate(edges) for part in (".notifications-toolbar", "section ul")]
    assert tablet[0] == tablet[1], "the bar is not as wide as the list"
    phone.set_viewport_size(PHONE["viewport"])
    phone.locator("[data-snooze]").tap()
    dialog.locator("summary").tap()
    look("snooze")
    # As the verbs of a row.
    assert dialog.evaluate(MEASURE_SHEET) == sheet
    dialog.get_by_role("button", name="Abbrechen").tap()
    phone.locator("[data-check=none]").tap()
    phone.route("**/notifications/mark/**", lambda route: route.fulfill(status=204))
    message = phone.locator(".notifications-floating")
    phone.get_by_role("button", name="Alle erledigen").tap()
    expect(message).to_contain_text("Nicht gespeichert.")
    look("not saved")
    phone.unroute_all()
    message.get_by_role("button").tap()
    expect(message).to_contain_text("3 nach „Erledigt“ verschoben.")
    assert message.bounding_box()["height"] < 56, "two lines"
    phone.evaluate("scrollTo(0, 9999)")
    assert message.evaluate(IS_FREE), "it is below the bar"
    message.get_by_role("button").tap()
    phone.goto(f"{site_server.url}/notifications/?view=done")
    view = phone.locator(".notifications-views [aria-current]")
    wait_until(lambda: view.evaluate(edges)[1] < 345, what="the view of the page")
    phone.goto(f"{site_server.url}/check/")
    wait_until_live(phone)
    phone.locator("notifications-bell button").first.tap()
    expect(phone.locator(".notifications-panel li").first).to_be_visible()
    look("bell")
    found["bell"] += phone.evaluate(FIND_CUT_TEXTS, "notifications-bell")
    head = phone.locator(".notifications-head").bounding_box()
    assert head["height"] <= 56
    assert phone.locator(".notifications-tab").first.evaluate(FIND_TEXT) == 24, "not above what is below"
    site_server.manage("notify", "demo", "Number 60")
    expect(phone.locator(".notifications-panel .notifications-news")).to_be_visible()
    phone.set_viewport_size({"width": 360, "height": 800})
    assert phone.locator(".notifications-tab").first.evaluate(FIND_TEXT) == 24
    for tab in phone.locator(".notifications-tab").all():
        assert tab.evaluate("(tab) => tab.scrollWidth <= tab.clientWidth"), "beside what is new, a tab is cut"
    problems = [f"{name}: {problem}" for name, each in found.items() for problem in each]
    assert not problems, "\n".join(problems)


def test_the_time_is_beside_the_title(site_server, new_page):
    """In the inbox and in the bell, also in French at 320 px. Four questions are seen at 360 x 740."""
    site_server.python(CREATE_TWO_NOTIFICATIONS + ASK_FOUR)
    phone = new_page(**PHONE | {"viewport": {"width": 360, "height": 740}})
    visit(phone, site_server.url, "/notifications/?view=questions")
    questions = phone.locator("notifications-inbox li")
    expect(questions).to_have_count(4)
    # Nothing can be selected: neither a bar nor the place of a checkbox is kept for that.
    for part in phone.locator("notifications-inbox :is(.notifications-toolbar, .notifications-select)").all():
        expect(part).to_be_hidden()
    # Their buttons end above the bar at the lower edge.
    assert questions.last.evaluate("(row) => row.getBoundingClientRect().bottom") <= 740
    tops = """(rows) => rows.map((row) => ["title", "time"].map((part) =>
        Math.round(row.querySelector(`.notifications-${part}`).getBoundingClientRect().top)))"""
    for width, language in ((360, "en"), (320, "fr")):
        phone.context.add_cookies([{"name": "django_language", "value": language, "url": site_server.url}])
        phone.set_viewport_size({"width": width, "height": 740})
        phone.goto(f"{site_server.url}/notifications/")
        expect(phone.locator("notifications-inbox li").nth(6)).to_be_visible()
        wait_until_live(phone)
        phone.locator("notifications-bell button").first.tap()
        expect(phone.locator(".notifications-panel li").last).to_be_attached()
        for title, time in phone.locator(":is(notifications-inbox, .notifications-panel) li").evaluate_all(
            tops
        ):
            assert title == time


@pytest.mark.nightly
def test_the_controls_of_the_composer(site_server, new_page):
    """What is not Django's own."""
    phone = new_page(errors=False, **PHONE)  # the admin has no favicon
    open_composer(site_server, phone)
    phone.get_by_label("Members of groups").check()
    problems = phone.evaluate(FIND_SMALL, COMPOSER_PART)
    shoot(phone, "composer")
    assert not problems, "\n".join(problems)


#: Pages of operators, and the elements with what is not Django's own.
OPERATOR_PAGES = {
    "notifications_operations/overview/": ".notifications-overview",
    "notifications_operations/overview/tasks/": ".notifications-overview",
    "notifications/job/?state__exact=failed": "#content",
    "notifications/job/{job}/change/": "#content",
    "notifications_schedules/schedule/": "#content",
    "notifications_operations/alert/": "#content",
}


@pytest.mark.nightly
def test_the_controls_of_operators(site_server, new_page):
    page = new_page(errors=False, **PHONE)
    page.add_init_script("localStorage.setItem('django.admin.navSidebarIsOpen', 'false')")
    site_server.python("from tests.jobs import tasks\ntasks.fail.enqueue()")
    job = find_job(site_server, "failed")
    sign_in(page, site_server.url, "admin")
    found = {}
    for path, part in OPERATOR_PAGES.items():
        page.goto(f"{site_server.url}/admin/{path.format(job=job)}")
        found[path] = page.evaluate(FIND_SMALL, part)
        shoot(page, path.split("/")[1])
    problems = [f"{name}: {problem}" for name, each in found.items() for problem in each]
    assert not problems, "\n".join(problems)


@pytest.mark.nightly
def test_the_verbs_of_a_row(site_server, phone):
    """A button of the row shows them, also in the bell; views and the bar of a selection are one line of words each."""
    site_server.python(
        "from django.contrib.auth import get_user_model; from notifications.api import notify\n"
        "for n in range(3): notify(get_user_model().objects.get(username='demo'), f'Number {n}')"
    )
    visit(phone, site_server.url, "/notifications/")
    done = phone.get_by_role("button", name="Done: Number 1")
    expect(done).to_be_hidden()
    more = phone.get_by_role("button", name="More: Number 1")
    assert more.evaluate("button => button.checkVisibility({ opacityProperty: true })")
    more.tap()
    sheet = phone.get_by_role("dialog", name="Number 1")
    expect(sheet.get_by_role("link", name="Details: Number 1")).to_be_visible()
    words = sheet.locator("[title]:visible").evaluate_all("(verbs) => verbs.map((verb) => verb.title)")
    assert words == ["Details", "Snooze…", "Mark as read", "Move to Done"]
    shown = done.evaluate("(verb) => getComputedStyle(verb, '::after').content")
    assert shown.startswith('"Move to Done"'), "the verb is an icon only"
    for leave in (
        lambda: phone.keyboard.press("Escape"),
        lambda: phone.touchscreen.tap(100, 100),  # Beside it, on another control.
        lambda: sheet.get_by_role("button", name="Dismiss").tap(),
    ):
        expect(sheet).to_be_visible()
        leave()
        expect(sheet).to_have_count(0)
        expect(more).to_be_focused()
        more.tap()
    assert phone.url.endswith("/notifications/")
    done.tap()
    expect(sheet).to_have_count(0)
    expect(phone.locator("notifications-inbox li[data-id]:visible")).to_have_count(2)
    # The times are for the row alone, then for the selection again.
    phone.get_by_role("checkbox", name="Select: Number 2").check()
    times = phone.get_by_role("dialog", name="Snooze")
    for leave in (lambda: phone.keyboard.press("Escape"), times.get_by_role("button", name="Tomorrow").tap):
        phone.get_by_role("button", name="More: Number 0").tap()
        phone.get_by_role("button", name="Snooze…").tap()
        expect(times).to_contain_text(re.compile(r"In 3 hours, \d+:\d\d"))
        leave()
        expect(times).to_be_hidden()
        expect(phone.get_by_role("checkbox", name="Select: Number 2")).to_be_checked()
    expect(phone.locator(".notifications-floating")).to_contain_text("1 snoozed until tomorrow, 08:00.")
    expect(phone.locator("notifications-inbox li[data-id]:visible")).to_have_count(1)
    phone.get_by_role("button", name="Undo").tap()
    expect(phone.locator("notifications-inbox li[data-id]:visible")).to_have_count(2)
    phone.locator("[data-snooze]").tap()
    assert times.locator("[name=until]").first.get_attribute("value") == "hours"
    phone.keyboard.press("Escape")
    phone.get_by_role("checkbox", name="Select: Number 0").check()
    color = "(row) => getComputedStyle(row).backgroundColor"
    tints = phone.locator("notifications-inbox li:has(:checked)").evaluate_all(f"(rows) => rows.map({color})")
    assert len(tints) == 2
    assert tints[0] == tints[1], "one of the selected rows has no tint"
    bar = phone.locator(".notifications-toolbar")
    assert bar.bounding_box()["height"] <= 84
    assert bar.evaluate("(bar) => bar.scrollWidth <= bar.clientWidth")
    heights = "(buttons) => buttons.map((button) => button.getBoundingClientRect().height)"
    assert len(set(bar.locator(".notifications-quiet:visible").evaluate_all(heights))) == 1
    views = phone.locator(".notifications-views")
    expect(views.get_by_role("link").first).to_contain_text(
        "2"
    )  # They are replaced when what is done counts no more.
    views.evaluate("(views) => views.append(...[1, 2].map(() => views.lastElementChild.cloneNode(true)))")
    assert views.bounding_box()["height"] <= 50
    assert "gradient" in views.evaluate("(views) => getComputedStyle(views).maskImage"), (
        "the end does not fade out"
    )
    views.evaluate("(views) => views.scrollTo(9999, 0)")
    space = """(views) => views.getBoundingClientRect().right - views.lastElementChild.getBoundingClientRect().right"""
    assert views.evaluate(space) > 20, "the last view is under the fade"
    expect(bar.get_by_role("button", name="Mark as read", exact=True)).to_be_visible()
    dialog = open_bell(phone)
    dialog.get_by_role("button", name="More: Number 2").tap()
    expect(phone.get_by_role("dialog", name="Number 2")).to_be_visible()
    dialog.get_by_role("button", name="Mark as read: Number 2").tap()
    expect(dialog.locator("li[data-unread]")).to_have_count(1)


#: Where the middle of the first line of a text is.
MIDDLE = """(node) => {
    const range = document.createRange();
    range.selectNodeContents(node);
    const { top, bottom } = range.getClientRects()[0];
    return (top + bottom) / 2;
}"""


def test_a_failed_call_is_one_line(site_server, phone):
    """What became of it, its status and the button that tries it again."""
    visit(phone, site_server.url)
    create_report(phone, site_server.url, [f"{site_server.url}/upstream/status/503"], "Failing")
    row = phone.locator(".calls tr:has(td button)")
    parts = row.locator(".outcome, td:nth-of-type(3), td button")
    expect(parts).to_have_count(3)
    middles = [part.evaluate(MIDDLE) for part in parts.all()]
    assert max(middles) - min(middles) <= 2, middles
    assert row.evaluate("(row) => row.scrollWidth <= row.clientWidth")


@pytest.mark.nightly
def test_toasts_leave_the_bell_and_the_rows_free(site_server, phone):
    """They lie below the header, above the list: one, and a line for the others. A skip link and "1 new" are free.

    They are about errors, which a list of another level does not offer.
    """
    create = (
        "from django.contrib.auth import get_user_model; from notifications.api import notify\n"
        "for n in range(3): notify(get_user_model().objects.get(username='demo'), f'{word} {{n}}', body='Body')"
    )
    site_server.python(create.format(word="Number"))
    record_shifts(phone)
    visit(phone, site_server.url, "/notifications/?level=info")
    before = phone.locator("main").bounding_box()
    site_server.python(create.format(word="New").replace("body=", "level='error', body="))
    site_server.manage("notify", "demo", "New of the list")
    expect(phone.locator(".notifications-toast")).to_have_count(2)
    rest = phone.locator(".notifications-rest")
    expect(rest).to_have_text(re.compile("2 more, 2 errors"))
    assert rest.bounding_box()["height"] <= 44
    expect(phone.locator(NEWS)).to_be_visible()
    shoot(phone, "toasts")
    phone.keyboard.press("Tab")
    for name, node in {
        "row": phone.locator("notifications-inbox li").first,
        "last row": phone.locator("notifications-inbox li").last,
        "bell": phone.locator("notifications-bell button"),
        "skip link": phone.locator(":focus"),
        "link to what is new": phone.locator(NEWS),
    }.items():
        assert node.evaluate(IS_FREE), name
    assert phone.locator("main").bounding_box() == before
    moved, sources = read_shifts(phone)
    assert moved <= MAX_SHIFT, sources
    open_bell(phone)
    expect(phone.locator(".notifications-toast")).to_have_count(0)


@pytest.mark.nightly_names("*[phone]")
@pytest.mark.parametrize(
    "window", [PHONE, {"viewport": {"width": 320, "height": 640}}], ids=["phone", "zoom"]
)
def test_the_link_to_what_is_new_keeps_the_focus(site_server, new_page, window):
    """It stays where it is when a toast comes, and is free of *Undo*. 320 px is a zoom of 400 %."""
    page = new_page(**window)
    site_server.manage("notify", "demo", "Old 1")
    visit(page, site_server.url, "/notifications/?level=info")
    site_server.manage("notify", "demo", "New 1")
    news = page.locator(NEWS)
    expect(news).to_be_visible()
    open_bell(page)
    page.keyboard.press("Escape")
    expect(page.locator(".notifications-toast")).to_have_count(0)
    news.focus()
    place, title = (
        news.bounding_box(),
        page.locator("notifications-inbox .notifications-title").bounding_box(),
    )
    assert place["y"] + place["height"] <= title["y"] + 1, "it covers a title"
    assert place["height"] == (44 if window is PHONE else 32)
    assert place["x"] + place["width"] / 2 == pytest.approx(page.viewport_size["width"] / 2, abs=1)
    for name in ("Mark these as read", "Move these to Done"):
        assert page.get_by_role("button", name=name).evaluate(IS_FREE), "it covers or removes a button"
    site_server.manage("notify", "demo", "New 2", "--level", "error")
    expect(page.locator(".notifications-toast")).to_have_count(1)
    expect(news).to_be_focused()
    assert news.bounding_box() == place and news.evaluate(IS_FREE)
    shoot(page, f"new-{page.viewport_size['width']}")
    row = page.locator("notifications-inbox li").first
    row.get_by_role("checkbox").check()
    expect(news).to_be_hidden()  # The bar is that of the selection.
    page.locator("notifications-inbox").get_by_role("button", name="Done", exact=True).click()
    expect(page.get_by_role("button", name="Undo")).to_be_visible()
    assert news.evaluate(IS_FREE), "Undo covers it"
    shoot(page, f"new-and-undo-{page.viewport_size['width']}")
    news.press("Enter")
    expect(page.locator("notifications-inbox li")).to_have_count(1)


@pytest.mark.nightly
def test_the_details_of_a_row_without_javascript(site_server, new_page):
    """Its page has the verbs."""
    site_server.manage("notify", "demo", "Number 1")
    page = new_page(**PHONE, java_script_enabled=False)
    page.goto(f"{site_server.url}/notifications/")
    page.locator("input[name=username]").fill("demo")
    page.locator("input[name=password]").fill("demo")
    page.locator("input[name=password]").press("Enter")
    page.get_by_role("link", name="Details: Number 1").tap()
    expect(page.get_by_role("button", name="Done", exact=True)).to_be_visible()
