"""The views of the inbox that a user saves: by forms of the page, which work without JavaScript."""

import html
import json
import re

import pytest
from django.urls import reverse

from notifications.api import notify
from notifications.inbox.saved_views import MAX_VIEWS, put_view
from notifications.models import InboxViews

pytestmark = pytest.mark.django_db(transaction=True)

INBOX = reverse("notifications:inbox")
VIEWS = reverse("notifications:inbox-views")
FILTER = "view=unread&category=billing&category=export&except=1&q=invoice"


@pytest.fixture
def view(user, user_client):
    """A page with filters that lists a notification, which can be saved."""
    notify(user, "An invoice", category="other")
    return f"{INBOX}?{FILTER}"


def post(client, url, **fields):
    """Send the form of a view on a page, and return the page that follows."""
    [form] = re.findall(rf'<form[^>]*action="{VIEWS}".*?</form>', client.get(url).text, re.DOTALL)
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form))
    query = {name: html.unescape(value) for name, value in hidden.items()}
    return client.post(VIEWS, {**query, **fields}, follow=True)


def undo(client, page):
    [(name, value)] = re.findall(r'<button[^>]* name="(\w+)" value="([^"]*)">Undo<', page.text)
    return client.post(VIEWS, {"query": FILTER, name: html.unescape(value)}, follow=True)


def read_names(user):
    return [
        name
        for text in InboxViews.objects.filter(user=user).values_list("views", flat=True)
        for name, _ in json.loads(text)
    ]


def links(page):
    """Return the names of the views of a page, that of the page with a star."""
    nav = re.search(r'<nav class="notifications-views".*?</nav>', page.text, re.DOTALL)[0]
    found = re.findall(r"<a([^>]*)>(?:<bdi>)?([^<]*)", nav)
    return [name.strip() + "*" * ("aria-current" in attributes) for attributes, name in found]


def read_message(page):
    """Return the message of a page about the last change, with its button, "" without one."""
    found = re.search(r'<div class="notifications-message".*?</div>', page.text, re.DOTALL)
    return found[0] if found else ""


def test_a_view_is_saved_renamed_and_deleted(user, user_client, view):
    """In the place of its form, each with Undo. It leads to the list with all its filters."""
    assert links(user_client.get(view)) == ["Inbox", "Unread*", "Done"]
    saved = post(user_client, view, name=" Invoices ")
    assert "The view “Invoices” is saved." in saved.text
    assert links(saved) == ["Inbox", "Unread", "Done", "Invoices*"]
    url = html.unescape(re.search(r'<a href="([^"]*)"[^>]*><bdi>Invoices', saved.text)[1])
    shown = user_client.get(url)
    assert "An invoice" in shown.text and links(shown)[-1] == "Invoices*" and "Edit view" in shown.text
    assert links(user_client.get(INBOX)) == ["Inbox*", "Unread", "Done", "Invoices"]
    assert ">Invoices<" in user_client.get(f"{INBOX}?part=views").text
    renamed = post(user_client, view, name="Money")
    assert links(renamed)[3:] == ["Money*"] and "renamed to “Money”" in renamed.text
    assert links(undo(user_client, renamed))[3:] == ["Invoices*"]
    put_view(user.pk, "category=other", "Later")
    deleted = post(user_client, view, delete="")
    assert links(deleted) == ["Inbox", "Unread*", "Done", "Later"] and "“Invoices” is deleted" in deleted.text
    again = undo(user_client, deleted)
    assert links(again)[3:] == ["Invoices*", "Later"] and "Undone." in again.text
    assert links(undo(user_client, saved))[3:] == ["Later"]


def test_a_list_is_one_view(user, user_client, view):
    """In whatever order its categories are named, and on whatever page of it; it is not that of a group."""
    post(user_client, view, name="One")
    other = "view=unread&category=export&category=billing&except=1&q=invoice&after=99"
    assert links(user_client.get(f"{INBOX}?{other}"))[3:] == ["One*"]
    post(user_client, f"{INBOX}?{other}", name="Two")
    assert read_names(user) == ["Two"]
    for query in ("", "view=unread", "group=x", "category=a&group=x"):
        page = user_client.get(f"{INBOX}?{query}")
        assert VIEWS not in page.text and not page.context["page"].can_save_view
        assert user_client.post(VIEWS, {"query": query, "name": "x"}).status_code == 400


@pytest.mark.parametrize("query", ["q=nothing", "q=nothing&after=99"])
def test_the_view_of_an_empty_list(user, user_client, query):
    """It can be saved, renamed and deleted where nothing is listed: the button that opens its form is there too."""
    page = f"{INBOX}?{query}"
    _expect_button(user_client.get(page), "Save view")
    saved = post(user_client, page, name="Nothing")
    assert links(saved)[3:] == ["Nothing*"]
    _expect_button(saved, "Edit view")
    assert read_names(user) == ["Nothing"]
    assert links(post(user_client, page, name="Later"))[3:] == ["Later*"]
    post(user_client, page, delete="")
    assert read_names(user) == []
    assert 'id="notifications-view"' not in user_client.get(f"{INBOX}?view=done").text


def test_the_view_of_a_list_of_which_no_row_is_found_yet(user, user_client, set_bounds):
    """A search that has read all that it may, and lists nothing, can be saved too."""
    set_bounds(searched=2)
    for number in range(5):
        notify(user, f"{number}")
    page = user_client.get(f"{INBOX}?q=0")
    assert "Search older" in page.text
    _expect_button(page, "Save view")


def _expect_button(page, label):
    """Expect one button, and the form that it opens: a group with the name of the button, outside of other forms."""
    [button] = re.findall(
        r'<button[^>]* popovertarget="notifications-view".*?</button>', page.text, re.DOTALL
    )
    assert label in button
    [sheet] = re.findall(r'<div[^>]* id="notifications-view"[^>]*>', page.text)
    assert 'role="group"' in sheet and f'aria-label="{label}"' in sheet
    before = page.text.partition(sheet)[0]
    assert before.count("<form") == before.count("</form>")


def test_a_view_that_is_deleted_twice(user, user_client, view):
    """As from two tabs: the second time nothing is changed, and nothing can be undone."""
    query = {"query": FILTER, "delete": ""}
    put_view(user.pk, "q=other", "Other")
    page = user_client.post(VIEWS, query, follow=True)
    assert "Nothing was left to change." in read_message(page) and "<button" not in read_message(page)
    assert read_names(user) == ["Other"]


def test_views_have_limits(user, user_client, view):
    """Of their number, also when one is restored, and of their names."""
    for number in range(MAX_VIEWS):
        put_view(user.pk, f"q={number}", f"{number}")
    assert "You have 20 views. Delete one first." in post(user_client, view, name="One more").text
    lost = json.dumps(["q=lost", "Lost", 0])
    response = user_client.post(VIEWS, {"query": FILTER, "undo": lost}, follow=True)
    assert "You have 20 views." in response.text
    assert len(read_names(user)) == MAX_VIEWS
    for name in ("", "  ", "x" * 41, "a\0b"):
        assert user_client.post(VIEWS, {"query": FILTER, "name": name}).status_code == 400, name
    for wrong in (
        "x",
        "[]",
        '["q=x", 1, 1]',
        '["", "n", 0]',
        '["view=x", "n", 0]',
        '["q=a&x=1", "n", 0]',
        '["q=x", "\\ud800", 0]',
    ):
        assert user_client.post(VIEWS, {"query": FILTER, "undo": wrong}).status_code == 400, wrong
    assert user_client.get(VIEWS).status_code == 405


@pytest.mark.parametrize(
    "undo",
    [
        '["q=x", "n", 100000000000000000000]',
        f'["q=x", "n", {MAX_VIEWS + 1}]',
        '["q=x", "n", -1]',
        '["q=x", "n", true]',
        "[" * 200_000,
    ],
    ids=lambda undo: undo[:20],
)
def test_an_undo_that_is_not_valid(user, user_client, undo):
    """The place is one that a view can have, and the JSON can be read."""
    assert user_client.post(VIEWS, {"query": FILTER, "undo": undo}).status_code == 400
    assert read_names(user) == []


def test_the_message_is_of_one_user(user_client, view, client_of, other_user):
    """Another one whom its address is sent does not see its text, nor a button that would change their views."""
    [(address, _)] = post(user_client, view, name="Mallory").redirect_chain
    message = read_message(user_client.get(address))
    assert "Mallory" in message and ">Undo<" in message
    assert read_message(client_of(other_user).get(address)) == ""


def test_views_are_of_one_user(user, user_client, view, client_of, other_user):
    """Another one does not see them, and those of a deleted user are deleted."""
    post(user_client, view, name="<Mine>")
    assert "&lt;Mine&gt;" in user_client.get(INBOX).text
    assert links(client_of(other_user).get(INBOX)) == ["Inbox*", "Unread", "Done"]
    put_view(other_user.pk, "q=x", "Theirs")
    user.delete()
    assert [row.user_id for row in InboxViews.objects.all()] == [other_user.pk]
