"""The inbox page: views, filters, search, pages in both directions, changes and undo, without JavaScript."""

import html
import re
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.urls import reverse

from notifications.api import notify
from notifications.models import Notification, Stream
from notifications.streams import marking
from tests.data.rows import unnumbered

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("patient_marking")]

INBOX = "/notifications/"
MARK = "/notifications/mark/"
UNDO = "/notifications/undo/"


def read_page(client, url=INBOX, **query):
    response = client.get(url, query)
    assert response.status_code == 200
    return response.content.decode()


def titles(page):
    """Return the titles of the rows on a page."""
    return re.findall(r'aria-label="Select: (.*?)"', page)


def href(page, rel):
    """Return the target of a link of a page, None if it has none."""
    match = re.search(rf'href="([^"]*)" rel="{rel}"', page)
    return match and html.unescape(match[1])


def follow(client, page, rel):
    target = href(page, rel)
    return client.get(target if target.startswith("/") else INBOX + target).content.decode()


def post(client, user, url=MARK, **form):
    """Send a form, and return the page to which it leads."""
    form = {"up_to": Stream.objects.get(user=user).head, **form}
    response = client.post(url, form)
    assert response.status_code == 303, response.content
    return client.get(response["Location"]).content.decode()


def undo(client, page):
    """Press the button "Undo" of a page."""
    (changed,) = re.findall(r'name="changed" value="(.*?)"', page)
    response = client.post(UNDO, {"changed": changed})
    assert response.status_code == 303, response.content
    page = client.get(response["Location"]).content.decode()
    assert "Undone." in page
    return page


def states(user):
    """Return (title, is read, is archived) of all notifications."""
    rows = Notification.objects.filter(user=user).order_by("raised")
    return [(row.title, row.read_at is not None, row.archived_at is not None) for row in rows]


def row_of(title):
    return Notification.objects.get(title=title)


@pytest.fixture
def three(user):
    """Return a user with an unread, a read and an archived notification."""
    for title in ("unread", "read", "archived"):
        notify(user, title)
    marking.mark(user.pk, "read", 3, [row_of("read").pk])
    marking.mark(user.pk, "archive", 3, [row_of("archived").pk])
    return user


class TestViews:
    def test_views(self, user_client, three):
        shown = {view: titles(read_page(user_client, view=view)) for view in ("inbox", "unread", "done")}
        assert shown == {"inbox": ["read", "unread"], "unread": ["unread"], "done": ["archived"]}

    def test_current_view_is_named(self, user_client, three):
        assert re.search(r'view=done" aria-current="page">Done', read_page(user_client, view="done"))

    @pytest.mark.parametrize(
        "query",
        [
            {"view": "x"},
            {"level": "x"},
            {"category": "x" * 101},
            {"q": "x" * 101},
            {"q": "\0"},
            {"before": "x"},
        ],
    )
    def test_invalid_query(self, user_client, query):
        """400, not 500."""
        assert user_client.get(INBOX, query).status_code == 400

    def test_counts(self, user_client, three, set_lists):
        """Of the inbox and of what is unread, up to a limit, whatever the filters are."""
        for search in ("", "nothing"):
            page = read_page(user_client, q=search)
            assert re.findall(r'>(\w+) <span class="notifications-total">(.*?)</span>', page) == [
                ("Inbox", "2"),
                ("Unread", "1"),
            ]
        set_lists(MAX_COUNT=1)
        assert '<span class="notifications-total">1+</span>' in read_page(user_client)

    def test_the_count_of_what_is_unread_is_exact(self, user_client, user, three):
        Stream.objects.filter(user=user).update(unread=1_300)
        assert '<span class="notifications-total">1,300</span>' in read_page(user_client)

    def test_what_is_committed_without_a_number(self, user_client, user):
        """It is numbered first, then listed and counted."""
        unnumbered(user.pk, 1)
        page = read_page(user_client)
        assert len(titles(page)) == 1
        assert page.count('<span class="notifications-total">1</span>') == 2

    def test_questions(self, user_client, user):
        """Those that are open have a view of their own, which is there while any is."""
        assert "view=questions" not in read_page(user_client)
        assert "No question waits for your answer." in read_page(user_client, view="questions")
        for title in ("Ship?", "note", "Refund?"):
            notify(user, title)
        Notification.objects.filter(title__endswith="?").update(open_question=uuid.uuid4())
        page = read_page(user_client, view="questions")
        assert titles(page) == ["Refund?", "Ship?"]
        assert 'aria-current="page">Questions <span class="notifications-total">2</span>' in page
        assert 'name="all"' not in page
        form = {"query": "view=questions", "up_to": "9", "all": "read"}
        assert user_client.post(f"{INBOX}mark/", form).status_code == 400

    @pytest.mark.parametrize("view", ["inbox", "unread"])
    def test_what_waits_is_first(self, view, user_client, user):
        """The newest three questions, each once, and a link to the others, which keep their places."""
        asked = [f"Question {number}?" for number in range(4)]
        for title in asked[:1]:
            notify(user, title)
        assert "notifications-waiting" not in read_page(user_client, view=view)
        for title in (*asked[1:], "note"):
            notify(user, title)
        Notification.objects.filter(title__in=asked[1:]).update(open_question=uuid.uuid4())
        page = read_page(user_client, view=view)
        assert titles(page) == ["Question 3?", "Question 2?", "Question 1?", "note", "Question 0?"]
        assert "All questions" not in page
        Notification.objects.filter(title__in=asked).update(open_question=uuid.uuid4())
        page = read_page(user_client, view=view)
        assert titles(page) == ["Question 3?", "Question 2?", "Question 1?", "note", "Question 0?"]
        headings = re.findall(r'class="notifications-day" [^>]*>(?:<span>)?(.*?)<|(All questions)</a>', page)
        assert headings == [("Waiting for you", ""), ("", "All questions"), ("Today", "")]
        for query in ({"level": "info"}, {"q": "question"}, {"view": "questions"}):
            assert "notifications-waiting" not in read_page(user_client, **{"view": view, **query})

    def test_what_waits_is_first_on_the_first_page_of_a_database(self, user_client, user):
        """It makes the epoch, and counts questions too."""
        notify(user, "Ship?")
        Notification.objects.update(open_question=uuid.uuid4())
        assert "notifications-waiting" in read_page(user_client)

    def test_the_views_alone(self, user_client, three):
        """An open page loads them again for their counts."""
        page = user_client.get(INBOX, {"view": "unread", "q": "x", "part": "views"}).content.decode()
        assert 'view=unread" aria-current="page">Unread <span class="notifications-total">1</span>' in page
        assert "<html" not in page and "notifications-inbox" not in page

    def test_empty_views_have_texts(self, user_client, user):
        assert "Nothing is unread." in read_page(user_client, view="unread")
        assert "are kept here." in read_page(user_client, view="done")
        assert "No notification matches." in read_page(user_client, q="nothing")


class TestFilters:
    def test_a_chip_for_the_group(self, user_client, user):
        """It leads to the list without the group. The fields above the list show the other filters."""
        notify(user, "a b", category="reports", level="error", group="n")
        page = read_page(user_client, view="unread", group="n:n", level="error", q="b")
        links = re.findall(r'<a[^>]* href="([^"]+)" title="(n: 1 failed|Clear filters)"', page)
        assert [(html.unescape(url), label) for url, label in links] == [
            (f"{INBOX}?view=unread", "Clear filters"),
            (f"{INBOX}?view=unread&level=error&q=b", "n: 1 failed"),
        ]

    def test_category_and_level(self, user_client, user):
        notify(user, "a", category="reports", level="error")
        notify(user, "b", category="reports")
        notify(user, "c", level="error")
        assert titles(read_page(user_client, category="reports")) == ["b", "a"]
        assert titles(read_page(user_client, level="error")) == ["c", "a"]
        assert titles(read_page(user_client, level="error", category="reports")) == ["a"]

    def test_categories_of_the_view_can_be_chosen(self, user_client, user, other_user):
        notify(user, "a", category="reports")
        notify(other_user, "b", category="of another user")
        page = read_page(user_client)
        assert re.findall(r'value="reports"><span>(.*?)</span>', page) == ["Reports"]
        assert "of another user" not in page
        assert 'value="gone" checked><span>Gone</span>' in read_page(user_client, category="gone")

    def test_several_categories_and_all_but_some(self, user_client, user):
        for title, category in (("a", "reports"), ("b", "talk"), ("c", ""), ("d", "talk")):
            notify(user, title, category=category)
        assert titles(read_page(user_client, category=["reports", "talk"])) == ["d", "b", "a"]
        page = read_page(user_client, category=["talk"], **{"except": 1})
        assert titles(page) == ["c", "a"] and "Not Talk" in page
        assert titles(read_page(user_client, **{"except": 1})) == ["d", "c", "b", "a"]  # of none
        assert user_client.get(INBOX, {"category": [str(n) for n in range(21)]}).status_code == 400

    def test_all_of_a_filter_is_marked_by_an_address_of_its_own(self, user_client, user):
        """On all pages of the list, and undone together; notifications of other categories stay as they are."""
        for n in range(30):
            notify(user, f"{n}", category=("reports", "talk", "")[n % 3])
        page = read_page(user_client, category="reports")
        assert "Select all" not in page  # It has one page.
        for n in range(60):
            notify(user, f"more {n}", category=("reports", "talk")[n % 2])
        page = read_page(user_client, category="reports")
        assert "Select all 40 in Reports" in page and 'data-url="/notifications/mark/filter/"' in page
        assert "<span>Select all 40</span>" in page  # It has room in German too.
        selected = read_page(user_client, category="reports", selected="all")
        assert 'name="all" value="archive" formaction="/notifications/mark/filter/"' in selected
        form = {"query": "category=talk&except=1", "up_to": 90, "all": "archive"}
        answer = user_client.post(f"{INBOX}mark/filter/", form, follow=True)
        assert "50 moved to Done." in answer.content.decode()
        assert titles(read_page(user_client)) == titles(read_page(user_client, category="talk"))
        undo = re.search(r'name="changed" value="([^"]+)"', answer.content.decode())[1]
        user_client.post(f"{INBOX}undo/", {"query": "", "changed": undo})
        assert "Select all 40 in Reports" in read_page(user_client, category="reports")

    def test_search(self, user_client, user):
        """Each word must be in the title or the body, in upper or lower case; signs of patterns have no meaning."""
        notify(user, "Export of 100% ready", body="12,400 rows")
        notify(user, "Import_done", body="ready")
        found = {
            text: titles(read_page(user_client, q=text))
            for text in ("READY", "export rows", "100%", "0%o", "t_d", "xt_d", "\\")
        }
        assert found == {
            "READY": ["Import_done", "Export of 100% ready"],
            "export rows": ["Export of 100% ready"],
            "100%": ["Export of 100% ready"],
            "0%o": [],
            "t_d": ["Import_done"],
            "xt_d": [],
            "\\": [],
        }

    def test_search_reads_a_bounded_number_and_continues(self, user_client, user, set_bounds):
        """What the first part does not find is found by a link, and none is found twice."""
        set_bounds(searched=4)
        for n in range(1, 11):
            notify(user, "wanted" if n in (2, 7) else f"other {n}")
        marking.mark(user.pk, "read", 10, [Notification.objects.get(raised=8).pk])
        page, found = read_page(user_client, q="wanted"), []
        texts = []
        for _ in range(3):
            found += titles(page)
            texts.append("Searched 4 notifications." in page)
            if href(page, "next") is None:
                break
            page = follow(user_client, page, "next")
        assert found == ["wanted", "wanted"]
        assert texts == [True, True, False]

    def test_search_towards_newer_ones(self, user_client, user, set_bounds):
        set_bounds(searched=4)
        for n in range(1, 11):
            notify(user, f"wanted {n}" if n in (2, 7) else f"other {n}")
        assert titles(read_page(user_client, q="wanted", before=0)) == ["wanted 2"]
        page = follow(user_client, read_page(user_client, q="wanted", before=0), "prev")
        assert titles(page) == ["wanted 7"]

    def test_a_search_that_fills_its_page_continues_as_any_page(
        self, user_client, user, set_bounds, set_lists
    ):
        """That it searched only so many explains a page with fewer rows, or with none."""
        set_bounds(searched=4)
        set_lists(PAGE_SIZE=2)
        for n in range(1, 9):
            notify(user, f"wanted {n}" if n in (1, 5, 8) else f"other {n}")
        page = read_page(user_client, q="wanted")
        assert titles(page) == ["wanted 8", "wanted 5"]
        assert "Load older" in page and "Searched" not in page
        assert titles(follow(user_client, page, "next")) == ["wanted 1"]


class TestPages:
    def test_both_directions(self, user_client, user):
        """Newer leads back to the same page, also when notifications were raised meanwhile."""
        for n in range(1, 61):
            notify(user, f"Number {n}")
        first = read_page(user_client)
        second = follow(user_client, first, "next")
        third = follow(user_client, second, "next")
        assert [len(titles(page)) for page in (first, second, third)] == [25, 25, 10]
        assert href(third, "next") is None
        assert href(first, "prev") is None
        notify(user, "Later")
        assert titles(follow(user_client, third, "prev")) == titles(second)
        assert titles(follow(user_client, follow(user_client, third, "prev"), "prev")) == titles(first)
        newest = follow(user_client, follow(user_client, second, "prev"), "prev")
        assert titles(newest)[0] == "Later"
        assert len(titles(newest)) == 25

    @pytest.mark.parametrize("query", [{}, {"q": "Number"}])
    def test_a_page_that_ends_at_the_newest_is_the_first(
        self, user_client, user, query, set_bounds, set_grouping
    ):
        """Else it would link to newer ones, of which there are none."""
        set_bounds(searched=4)
        set_grouping(MAX_ROWS_SCANNED=4)
        for n in range(1, 11):
            notify(user, f"Number {n}")
        page = read_page(user_client, before=6, **query)
        assert href(page, "prev") is None
        assert titles(page) == titles(read_page(user_client, **query))

    def test_filters_are_kept(self, user_client, user):
        for n in range(60):
            notify(user, f"Number {n}", category="reports & more")
        page = read_page(user_client, category="reports & more", q="Number")
        second = follow(user_client, page, "next")
        assert len(titles(second)) == 25
        assert "category=reports+%26+more" in href(second, "next")
        assert "category=reports+%26+more" in href(second, "prev")

    def test_days(self, user_client, user, set_now):
        """Days, a week, then months. Rows below a day have the time of day, others of this year a date without it."""
        now = datetime(2026, 3, 20, 12, tzinfo=UTC)
        for days in (200, 50, 49, 6, 2, 1, 0):
            (id,) = notify(user, f"{days} days")
            Notification.objects.filter(pk=id).update(created_at=now - timedelta(days=days, minutes=5))
        set_now(now)
        page = read_page(user_client)
        headings = re.findall(r'class="notifications-day"[^>]*>(.*?)<', page)
        assert headings == ["Today", "Yesterday", "Last 7 days", "January 2026", "September 2025"]
        ages = re.findall(r"data-relative>(.*?)<", page)
        assert ages == ["5 min ago", "11:55", "Mar 18", "Mar 14", "Jan 30", "Jan 29", "Sep 1, 2025"]


class TestChanges:
    @pytest.mark.parametrize(
        ("verb", "after"),
        [
            ("read", [("unread", True, False), ("read", True, False)]),
            ("unread", [("unread", False, False), ("read", False, False)]),
            ("archive", [("unread", False, True), ("read", True, True)]),
        ],
    )
    def test_selection_and_undo(self, user_client, three, verb, after):
        """Undo changes back the ones that were changed, not those that were in that state before."""
        before = states(three)
        ids = [str(row_of(title).pk) for title in ("unread", "read")]
        page = post(user_client, three, verb=verb, id=ids)
        assert states(three)[:2] == after
        undo(user_client, page)
        assert states(three) == before

    def test_unarchiving_and_undo(self, user_client, three):
        before = states(three)
        page = post(user_client, three, verb="unarchive", id=[str(row_of("archived").pk)], query="view=done")
        assert "1 moved to the inbox." in page
        assert states(three)[2] == ("archived", False, False)
        undo(user_client, page)
        assert states(three) == before

    @pytest.mark.parametrize("query", ["", "view=done", "category=c&q=a+b"])
    def test_selecting_the_page(self, user_client, three, query):
        """By a link that keeps the filters, and one that undoes it. Forms return to the page without a selection."""
        notify(three, "a b", category="c")
        url = f"{INBOX}?{query}".rstrip("?")
        selected = f"{url}{'&' if query else '?'}selected=page"
        page = user_client.get(url).content.decode()
        assert f'data-check="all" href="{html.escape(selected)}"' in page
        assert not re.search(r'name="id"[^>]* checked', page)
        assert f'data-check="none" href="{html.escape(url)}"' in page
        page = user_client.get(selected).content.decode()
        assert page.count('name="id"') == len(re.findall(r'name="id"[^>]* checked', page)) > 0
        assert set(re.findall(r'name="query" value="(.*?)"', page)) == {html.escape(query)}

    def test_one(self, user_client, three):
        """Its button has no effect on the ones that are checked."""
        form = {"one": f"archive.{row_of('read').pk}", "verb": "read", "id": [str(row_of("unread").pk)]}
        assert "1 moved to Done." in post(user_client, three, **form)
        assert states(three)[:2] == [("unread", False, False), ("read", True, True)]

    def test_filters_and_position_are_kept(self, user_client, three):
        response = user_client.post(
            MARK, {"up_to": 5, "verb": "read", "query": "view=unread&category=c&after=9&q=a+b&evil=1"}
        )
        assert response["Location"] == f"{INBOX}?view=unread&category=c&q=a+b&after=9&changed=none"
        assert "Select notifications first." in user_client.get(response["Location"]).content.decode()

    @pytest.mark.parametrize("verb", ["read", "archive"])
    def test_all_and_undo(self, user_client, three, verb):
        """Those that were read or archived before, or later, or changed back since, are not touched by undo."""
        for n in range(120):
            notify(three, f"Number {n}")
        before = states(three)
        page = post(user_client, three, all=verb)
        column = 1 if verb == "read" else 2
        assert all(state[column] for state in states(three))
        notify(three, "Later")
        marking.mark(three.pk, verb, Stream.objects.get(user=three).head, [row_of("Later").pk])
        undo(user_client, page)
        assert states(three)[:-1] == before
        assert states(three)[-1][column]

    def test_all_of_a_filter(self, user_client, user):
        for n in range(3):
            notify(user, f"report {n}", category="reports")
            notify(user, f"other {n}", level="error")
        assert "3 marked as read." in post(user_client, user, all="read", query="category=reports")
        assert [title for title, is_read, _ in states(user) if is_read] == [
            "report 0",
            "report 1",
            "report 2",
        ]
        assert "3 moved to Done." in post(user_client, user, all="archive", query="level=error")
        assert [title for title, _, is_archived in states(user) if is_archived] == [
            "other 0",
            "other 1",
            "other 2",
        ]

    @pytest.mark.parametrize(
        ("query", "read", "archive"),
        [
            ({}, "Mark all as read", "Move all to Done"),
            ({"group": "n:g"}, "Mark these as read", "Move these to Done"),
            ({"category": "c", "level": "error"}, "Mark these as read", "Move these to Done"),
        ],
        ids=str,
    )
    def test_buttons_for_all_say_whether_there_is_a_filter(self, query, read, archive, user_client, user):
        notify(user, "note", category="c", level="error", group="g")
        page = read_page(user_client, **query)
        buttons = re.findall(r'name="all" value="(\w+)" formaction=.*?<span>(.*?)</span>', page)
        assert dict(buttons) == {"read": read, "archive": archive}

    def test_undo_is_bound_to_its_user(self, user_client, client_of, three, other_user):
        page = post(user_client, three, all="archive")
        (changed,) = re.findall(r'name="changed" value="(.*?)"', page)
        before = states(three)
        client_of(other_user).post(UNDO, {"changed": changed})
        page = post(user_client, three, url=UNDO, changed=changed.replace("archive", "read", 1))
        assert states(three) == before, "the time is of another column"

    @pytest.mark.parametrize("changed", ["", "x", "read-1", "unread-all-1-1-1-1-0", "archive-all-1-x-1-1-0"])
    def test_invalid_undo(self, user_client, changed):
        """400, not 500. In the URL of the page it is ignored."""
        assert user_client.post(UNDO, {"changed": changed}).status_code == 400
        assert "notifications-message" not in read_page(user_client, changed=changed).partition("<main")[2]

    def test_forms_need_a_csrf_token(self, user, client_of):
        strict = client_of(user, enforce_csrf_checks=True)
        for url in (reverse("notifications:inbox-mark"), reverse("notifications:inbox-undo")):
            assert strict.post(url).status_code == 403


class TestOneValue:
    """The page is a value, which reads each part once, when a template first asks for it."""

    @pytest.fixture
    def many(self, user):
        for number in range(30):
            level, group = ("error", "x") if number % 5 == 0 else ("info", None)
            notify(user, f"note {number}", category=f"c{number % 3}", level=level, group=group)
        notify(user, "Ship?")
        Notification.objects.filter(title="Ship?").update(open_question=uuid.uuid4())
        return user

    @pytest.mark.parametrize(
        ("query", "most"),
        [
            ({}, 7),
            ({"view": "done"}, 4),
            ({"category": "c1", "selected": "all"}, 5),
            ({"q": "note"}, 5),
            ({"after": 20}, 6),
            ({"part": "views"}, 3),
            ({"part": "message", "changed": "read-" + "0" * 32}, 2),
        ],
        ids=str,
    )
    def test_queries(self, user_client, many, query, most, django_assert_max_num_queries):
        read_page(user_client)
        with django_assert_max_num_queries(most):
            read_page(user_client, **query)

    def test_queries_of_a_group(self, user_client, many, django_assert_max_num_queries):
        read_page(user_client)
        key = Notification.objects.filter(group_key__isnull=False)[0].group_key
        with django_assert_max_num_queries(7):
            page = read_page(user_client, group=key)
        assert page.count("notifications-waiting") == 0 and titles(page)[0] == "note 25"
        with django_assert_max_num_queries(5):
            assert "6 failed" in read_page(user_client, group=key, part="views")

    def test_it_is_read_once(self, user_client, many, django_assert_num_queries):
        """The value of the page, which a template of the project may ask again, makes no query after it."""
        page = user_client.get(INBOX).context["page"]
        with django_assert_num_queries(0):
            [waiting, *others] = page.sections
            assert [item.notification.title for item in waiting.rows] == ["Ship?"]
            assert sum(len(section.rows) for section in others) == len(page.rows) - 1
            assert page.urls["older"] and page.urls["newer"] == page.questions_url == ""
            assert not page.failed and page.group is None and page.total == ""
