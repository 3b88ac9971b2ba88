"""Questions in a browser: answered in toast, bell and inbox, and shown as answered in every other place."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.parts import expect_unread, expect_unseen, find_bell, open_bell, visit, wait_until_live
from tests.browser.test_actions import keep_screenshot
from tests.support.axe import find_violations
from tests.support.browser import sign_in

pytestmark = pytest.mark.browser

ASK = """
from django.contrib.auth import get_user_model
from tests.contrib.questions import question_tasks
question_tasks.ask_sync.using(owner=get_user_model().objects.get(username="demo")).enqueue()
"""
PRINT_ID = """
from notifications.models import Job
print(Job.objects.get().pk)
"""
ANSWERS = """
from notifications.models import Wait
print([(wait.how, wait.value, wait.ended_with) for wait in Wait.objects.all()])
"""


GROUP = """
from django.contrib.auth import get_user_model
from notifications.api import notify
for number in range(2):
    notify(get_user_model().objects.get(username="demo"), f"Import {number}", group="Imports")
"""


def answer_button(place):
    return place.get_by_role("button", name="Ship: Ship?")


@pytest.mark.nightly_names("*[toast]", "*[bell]")
@pytest.mark.parametrize("place", ["toast", "bell", pytest.param("inbox", marks=pytest.mark.smoke)])
def test_an_answer_in_one_place_is_shown_in_all(site_server, new_page, place):
    inbox = visit(new_page(), site_server.url, "/notifications/")
    other = visit(new_page(), site_server.url, "/reports/")
    site_server.python(ASK)
    toast = other.locator("notifications-toasts .notifications-toast")
    expect(toast).to_contain_text("Ship?")
    expect_unread(other, 1)
    # The number of questions stays when the list has been shown.
    expect(find_bell(other)).to_have_accessible_name(
        re.compile("1 new, 1 unread, 1 waiting for your answer$")
    )
    badge = other.locator("notifications-bell .notifications-asks")
    expect(badge).to_have_text("1")
    if place == "bell":
        open_bell(other)
        expect(find_bell(other)).to_have_accessible_name("Notifications: 1 unread, 1 waiting for your answer")
        expect(badge).to_have_text("1")
        waiting = other.locator(".notifications-waiting")
        expect(waiting).to_contain_text("Waiting for you")
        expect(waiting.get_by_role("listitem")).to_contain_text("Ship?")
        expect(other.locator(".notifications-panel > ul li")).to_have_count(0)
        other.keyboard.press("Escape")
    # An inbox without rows shows it at once.
    expect(inbox.get_by_role("heading", name="Waiting for you")).to_be_visible()
    row = inbox.locator("notifications-inbox .notifications-waiting li[data-question]")
    expect(row).to_contain_text("To the new address.")
    # It stays until it is answered.
    expect(inbox.get_by_role("link", name="Questions 1")).to_be_visible()
    row.hover()
    expect(row.get_by_role("button", name="Done: Ship?")).to_be_hidden()
    # Nor has it a checkbox, since no verb would change it.
    expect(inbox.get_by_role("checkbox", name="Select: Ship?")).to_be_hidden()
    expect(row).to_be_visible()
    height = row.bounding_box()["height"]
    if place == "toast":
        answer_button(toast).click()
    elif place == "inbox":
        answer_button(row).click()
    else:
        # A list that is loaded again leaves the button in place, which may be pressed.
        with other.expect_response(lambda response: "limit=" in response.url):
            open_bell(other)
        button = answer_button(other.locator(".notifications-panel"))
        shown_button = button.element_handle()
        other.keyboard.press("Escape")
        with other.expect_response(lambda response: "limit=" in response.url):
            open_bell(other)
        expect(button).to_be_visible()
        assert shown_button.evaluate("(button) => button.isConnected")
        button.click()
    expect(toast.filter(has_text="Ship?")).to_have_count(0)
    answered = "You answered “Ship”."
    shown = inbox.locator("notifications-inbox li[data-id]").filter(has_text="Ship?")
    expect(shown).to_contain_text(answered)
    expect(inbox.get_by_role("heading", name="Waiting for you")).to_be_hidden()
    expect(inbox.get_by_role("heading", name="Questions")).to_be_visible()
    assert shown.bounding_box()["height"] == height, "what is below it has moved"
    if place == "inbox":
        expect(shown.locator(".notifications-title")).to_be_focused()
    expect(shown).not_to_have_attribute("data-unread", "")
    expect(answer_button(inbox)).to_have_count(0)
    expect(inbox.get_by_role("link", name=re.compile("^Questions"))).to_have_count(0)
    for page in (other, inbox):
        expect(page.locator("notifications-bell .notifications-asks")).to_be_hidden()
    assert find_violations(inbox) == []
    if place != "bell":
        open_bell(other)
    expect(other.locator(".notifications-panel li").filter(has_text="Ship?")).to_contain_text(answered)
    assert "('answered', '\"yes\"', 'Chrome on Linux')" in site_server.python(ANSWERS)
    # The end of the job and another question move no row: one link offers them, no toast, and what waits is first.
    site_server.python(ASK)
    # That of a question that was answered in the inbox is shown by its pane, if this was loaded before it came.
    counts = "[12]" if place == "inbox" else "2"
    news = inbox.locator("notifications-inbox").get_by_role("link", name=re.compile(f"^{counts} new$"))
    expect(news).to_be_visible()
    expect(inbox.locator(".notifications-toast")).to_have_count(0)
    expect(row).to_have_count(0)
    news.click()
    expect(row).to_be_visible()


@pytest.mark.nightly
def test_an_answered_question_stays_in_the_open_bell(site_server, page):
    """When the groups below it are read again. It is gone when the bell is opened again."""
    site_server.python(GROUP)
    site_server.python(ASK)
    visit(page, site_server.url, "/check/")
    panel = open_bell(page)
    waiting = panel.locator(".notifications-waiting li")
    with page.expect_response(lambda response: "background=1" in response.url):
        answer_button(waiting).click()
    expect(panel.get_by_text("Imports: 2 updates")).to_be_visible()
    site_server.python(GROUP)
    expect(panel.get_by_text("Imports: 4 updates")).to_be_visible()
    expect(waiting).to_contain_text("You answered “Ship”")
    page.keyboard.press("Escape")
    open_bell(page)
    expect(waiting).to_have_count(0)
    expect(panel.locator("li").filter(has_text="Ship?")).to_have_count(1)


@pytest.mark.nightly
@pytest.mark.parametrize(("width", "shown"), [(1280, 3), (360, 2)])
def test_three_questions_do_not_fill_the_bell_of_a_phone(site_server, new_page, width, shown):
    for _ in range(3):
        site_server.python(ASK)
    page = new_page(viewport={"width": width, "height": 740})
    visit(page, site_server.url, "/check/")
    waiting = open_bell(page).locator(".notifications-waiting")
    expect(waiting.get_by_role("link", name="Ship?", exact=True)).to_have_count(shown)
    link = waiting.get_by_role("link", name="All 3 questions")
    expect(link).to_have_count(3 - shown)
    keep_screenshot(page, f"three questions {width}")


@pytest.mark.nightly
def test_a_click_that_comes_second_shows_who_was_first(site_server, new_page):
    # The browser logs the status 409.
    site_server.python(ASK)
    first, page = [visit(new_page(errors=False), site_server.url, "/notifications/") for _ in range(2)]
    late_choices = [
        shown.locator("notifications-inbox li[data-question]")
        .get_by_role("button", name="Keep: Ship?")
        .element_handle()
        for shown in (first, page)
    ]
    answers = []
    first.on("request", lambda request: "/answers/" in request.url and answers.append(request.url))
    answer_button(first.locator("notifications-inbox li[data-question]")).click()
    for shown, late in zip((first, page), late_choices, strict=True):
        expect(answer_button(shown)).to_have_count(0)
        shown.evaluate("(link) => { document.body.append(link); link.click(); }", late)
    # Where it was answered, a second press sends nothing.
    assert len(answers) == 1
    expect(page.locator(".notifications-text", has_text="You answered “Ship”")).to_be_visible()


ASK_TWO = """
from django.contrib.auth import get_user_model
from tests.contrib.questions import question_tasks
demo = get_user_model().objects.get(username="demo")
print(question_tasks.ask_several.using(owner=demo).enqueue(names=["First", "Second"]).id)
"""


@pytest.mark.nightly
def test_open_pages_follow_an_answer_of_another_place(site_server, new_page):
    """That of the question says who has answered, and that of the job shows the next question."""
    laptop, phone = new_page(), new_page(viewport={"width": 380, "height": 800})
    id = site_server.python(ASK_TWO).split()[-1]
    for page in (laptop, phone):
        visit(page, site_server.url, f"/notifications/jobs/{id}/")
        expect(page.get_by_role("heading", name="First?")).to_be_visible()
    assert find_violations(phone) == []
    assert phone.evaluate("document.documentElement.scrollWidth") <= 380
    phone.goto(phone.get_by_role("button", name="Ship").evaluate("(button) => button.form.action"))
    wait_until_live(laptop)
    wait_until_live(phone)
    # It can be answered without scrolling, however long the text before it is.
    phone.locator(".notifications-facts").evaluate("(facts) => { facts.style.height = '2000px'; }")
    expect(phone.get_by_role("button", name="Ship")).to_be_in_viewport(ratio=1)
    site_server.manage("notifications", "jobs", "answer", id, "yes", "--name", "First")
    expect(phone.locator(".notifications-text", has_text="Staff answered “Ship”")).to_be_visible()
    expect(laptop.get_by_role("heading", name="Second?")).to_be_visible()
    laptop.get_by_role("button", name="Keep").click()
    # That of the question, or that of the job, which has ended.
    expect(laptop.get_by_text(re.compile("You answered “Keep”|Succeeded")).first).to_be_visible()
    assert "('answered', '\"no\"', 'Chrome on Linux')" in site_server.python(ANSWERS)


@pytest.mark.nightly
def test_without_javascript_it_is_answered_on_its_page(site_server, new_page):
    site_server.python(ASK)
    page = new_page(java_script_enabled=False)
    sign_in(page, site_server.url)
    page.goto(f"{site_server.url}/notifications/")
    page.get_by_role("link", name="Ship?", exact=True).click()
    page.get_by_role("button", name="Keep").click()
    expect(page.locator(".notifications-text", has_text="You answered “Keep”")).to_be_visible()


ASK_BY = """
from django.contrib.auth import get_user_model
from tests.contrib.questions import question_tasks
question_tasks.%s.using(owner=get_user_model().objects.get(username="demo")).enqueue()
"""


@pytest.mark.nightly
def test_a_form_is_opened_from_the_toast_and_answers(site_server, new_page):
    page = visit(new_page(errors=False), site_server.url, "/reports/")
    site_server.python(ASK_BY % "ask_by_form")
    page.locator(".notifications-toast").get_by_role("link", name="Open the form: Approve?").click()
    page.get_by_label("Amount").fill("12.50")
    page.get_by_role("button", name="Send the answer").click()
    expect(page.get_by_text("Say why you do not approve.")).to_be_visible()
    assert find_violations(page) == []
    expect(page.get_by_label("Amount")).to_have_value("12.50")
    page.get_by_label("Approved").check()
    page.get_by_role("button", name="Send the answer").click()
    expect(page.locator(".notifications-text", has_text="You answered")).to_be_visible()
    assert "answered" in site_server.python(ANSWERS)


def test_a_dangerous_choice_is_confirmed(site_server, new_page):
    page = visit(new_page(), site_server.url, "/reports/")
    dialog = open_bell(page)
    dialog.get_by_role("button", name="Questions").click()
    site_server.manage("notify", "demo", "Before it")
    site_server.python(ASK_BY % "ask_danger")
    expect_unseen(page, 2)
    dialog.get_by_role("button", name="1 new").click()
    expect(dialog.get_by_role("listitem")).to_contain_text("Delete?")
    page.wait_for_timeout(300)
    expect_unseen(page, 2)  # The tab does not list the other one.
    page.keyboard.press("Escape")
    open_bell(page)
    expect(dialog.get_by_role("heading")).to_have_text(["Waiting for you", "Latest"])
    expect(dialog.get_by_role("listitem").last).to_contain_text("Before it")
    # A dialog says what comes of it, away from the button, with the focus on Cancel.
    button = dialog.get_by_role("button", name="Delete: Delete?")
    button.focus()
    page.keyboard.press("Space")  # as a button is pressed
    question = page.get_by_role("dialog", name="The answer “Delete” cannot be taken back.")
    expect(question.get_by_role("heading")).to_have_text("The answer “Delete” cannot be taken back.")
    expect(question.get_by_role("button", name="Cancel")).to_be_focused()
    keep_screenshot(page, "danger-bell")
    assert find_violations(page, "dialog") == []
    page.keyboard.press("Enter")
    expect(question).to_have_count(0)
    # On its page too.
    page.goto(site_server.url + button.get_attribute("href"))
    wait_until_live(page)
    page.get_by_role("button", name="Delete").click()
    expect(question.get_by_role("button", name="Cancel")).to_be_focused()
    keep_screenshot(page, "danger-page")
    page.keyboard.press("Escape")
    assert "answered" not in site_server.python(ANSWERS)
    page.get_by_role("button", name="Delete").click()
    question.get_by_role("button", name="Delete").click()
    expect(page.locator(".notifications-text", has_text="You answered “Delete”")).to_be_visible()


@pytest.mark.nightly
def test_a_dangerous_choice_without_javascript(site_server, new_page):
    """A page says what comes of it, where the button is not below the pointer that has pressed the first one."""
    page = new_page(java_script_enabled=False)
    sign_in(page, site_server.url)
    site_server.python(ASK_BY % "ask_danger")
    page.goto(f"{site_server.url}/notifications/?view=questions")
    page.get_by_role("link", name="Delete: Delete?").click()
    button = page.get_by_role("button", name="Delete")
    first = button.bounding_box()
    button.click()
    expect(page.get_by_role("heading", name="The answer “Delete” cannot be taken back.")).to_be_visible()
    expect(page.get_by_role("link", name="Cancel")).to_be_focused()
    keep_screenshot(page, "danger-no-script")
    second = button.bounding_box()
    assert second["y"] >= first["y"] + first["height"] or second["x"] >= first["x"] + first["width"]
    assert "answered" not in site_server.python(ANSWERS)
    button.click()
    expect(page.locator(".notifications-text", has_text="You answered “Delete”")).to_be_visible()


@pytest.mark.nightly
def test_a_listener_answers(site_server, new_page):
    """It gets a question that is open already, once, and is told that another answer was first."""
    page, other = (visit(new_page(errors=False), site_server.url, "/reports/") for _ in range(2))
    id = site_server.python(ASK + PRINT_ID).split()[-1]
    listen = """async (id) => {
        const { job } = await notifications.ready;
        window.handle = job(id);
        window.questions = [];
        window.handle.on("question", (question) => window.questions.push(question));
    }"""
    for each in (page, other):
        each.evaluate(listen, id)
        each.wait_for_function("() => window.questions.length === 1")
    assert page.evaluate("[questions[0].title, questions[0].choices]") == [
        "Ship?",
        {"yes": "Ship", "no": "Keep"},
    ]
    refused = page.evaluate("questions[0].answer('perhaps').catch((error) => [error.name, error.status])")
    assert refused == ["RequestRefused", 422]
    assert page.evaluate("questions[0].answer('yes')")["ended"] is not None
    assert other.evaluate("questions[0].answer('no').catch((error) => error.status)") == 409
    assert page.evaluate("window.handle.result") == "yes"
    assert page.evaluate("window.questions.length") == 1


ENQUEUE_QUESTION = """
from django.contrib.auth import get_user_model
from tests.contrib.questions import question_tasks
demo = get_user_model().objects.get(username="demo")
for _ in range(2):
    question_tasks.ask_sync.using(owner=demo).enqueue()
"""


@pytest.mark.nightly
def test_an_answered_question_keeps_its_place_in_the_toasts(site_server, new_page):
    """A second tap answers nothing: the toast shows the answer, and the next one takes no press as it appears.

    On a phone, where one has room, an error does not hide a question.
    """
    page = visit(new_page(viewport={"width": 380, "height": 800}), site_server.url, "/reports/")
    toasts = page.locator("notifications-toasts .notifications-toast")
    site_server.manage("notify", "demo", "Went wrong", "--level", "error")
    expect(toasts).to_contain_text("Went wrong")
    site_server.python(ENQUEUE_QUESTION)
    expect(toasts.last).to_contain_text("2 more, 1 error")
    height = toasts.first.bounding_box()["height"]
    answer_button(toasts.first).click()
    expect(toasts.first).to_contain_text("You answered “Ship”")
    expect(toasts.first.locator(".notifications-actions")).to_have_count(0)
    expect(toasts.first.locator(".notifications-title")).to_be_focused()
    assert round(toasts.first.bounding_box()["height"]) == round(height)
    # The next one is under the finger when it appears: something lies over its buttons, for half a second.
    page.evaluate(
        """() => new MutationObserver(() => {
            const actions = document.querySelector("notifications-toasts .notifications-actions");
            if (actions) window.shield ??= getComputedStyle(actions, "::before").visibility;
        }).observe(document.querySelector("notifications-toasts"), {childList: true, subtree: true})"""
    )
    expect(answer_button(toasts.first)).to_be_visible()
    assert page.evaluate("window.shield") == "visible"
    answer_button(toasts.first).click()
    expect(toasts.first).to_contain_text("You answered “Ship”")
