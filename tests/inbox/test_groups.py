"""Groups of notifications, each of which is one row of the inbox."""

import random
import re
from collections import Counter
from datetime import timedelta
from html import unescape

import pytest

from notifications import times
from notifications.api import notify, policy, task
from notifications.models import Notification, uuid7
from notifications.testing import run_jobs
from tests.data.rows import finish_job, job
from tests.jobs import tasks
from tests.support.duties import run_duty

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_old_django]

INBOX = "/notifications/"
#: A task whose title is declared by the tests of names.
PATH = f"{tasks.__name__}.answer_blank"


@task
@policy(notify=lambda job: {"group": "Imports"})
def import_rows():
    pass


def read_titles(client, url=INBOX):
    """Return the titles of the rows of a page, with the counts of groups."""
    response = client.get(url)
    assert response.status_code == 200
    rows = re.findall(r'<li class="notifications-item".*?</li>', response.content.decode(), re.DOTALL)
    titles = [re.search(r'notifications-title"[^>]*>([^<]*)<', row)[1].strip() for row in rows]
    totals = [re.search(r'notifications-total">([^<]+)<', row) for row in rows]
    return [f"{title} ({total[1]})" if total else title for title, total in zip(titles, totals, strict=True)]


def find_group_url(client, url=INBOX):
    (href,) = re.findall(
        r'href="(\?[^"]*|[^"]*\?[^"]*group=[^"]*)" aria-expanded', client.get(url).content.decode()
    )
    return unescape(href)


def notify_imports(user, count=6, group="Imports"):
    for number in range(count):
        level = "error" if number == 2 else "success"
        notify(user, f"Import {number}", level=level, group=group)


def read_form(client, url=INBOX):
    """Return the fields of the form of a page, with all of its checkboxes."""
    page = client.get(url).content.decode()
    fields = dict(re.findall(r'<input type="hidden" name="(query|up_to|seen)" value="([^"]*)"', page))
    boxes = {
        name: re.findall(rf'type="checkbox" name="{name}" value="([^"]*)"', page) for name in ("id", "groups")
    }
    return {k: unescape(v) for k, v in fields.items()} | {k: [*map(unescape, v)] for k, v in boxes.items()}


def press(client, value, url=INBOX):
    """Press a verb of a group, and return the page after it."""
    fields = {**read_form(client, url), "id": [], "groups": [], "group": value}
    response = client.post(f"{INBOX}mark/", fields)
    assert response.status_code == 303
    return client.get(response["Location"]).content.decode()


def test_a_named_group_is_one_row_where_its_newest_notification_is(user_client, user):
    notify(user, "Old")
    notify_imports(user)
    notify(user, "New")
    assert read_titles(user_client) == ["New", "Imports: 1 failed, 5 succeeded", "Old"]
    assert '-body" dir="auto">Import 2<' in user_client.get(INBOX).content.decode()
    # What has failed is first.
    assert read_titles(user_client, find_group_url(user_client)) == [
        f"Import {n}" for n in (2, 5, 4, 3, 1, 0)
    ]
    page = user_client.get(find_group_url(user_client)).content.decode()
    assert '<span dir="auto">Imports: 1 failed, 5 succeeded</span>' in page  # what its filter says
    assert re.findall(r'<h2 class="notifications-day"[^>]*>([^<]+)<', page) == ["Failed", "Today"]
    assert user_client.get("/notifications/api/notifications/").json()["unread"] == 8


class TestWhatIsAGroup:
    def test_jobs_of_one_task_from_three_on(self, user_client, user):
        for count, titles in ((2, ["Work", "Work"]), (3, ["Work: 3 succeeded"])):
            while Notification.objects.count() < count:
                finish_job(job(user), uuid7())
            assert read_titles(user_client) == titles

    def test_jobs_of_one_task_with_different_titles(self, user_client, user):
        """It has the name of the task, and below nothing of one that is as the others, but of one that has failed."""
        for number in range(3):
            finish_job(
                job(user, title=f"Send receipts {number}", task_path="shop.tasks.send_receipts"), uuid7()
            )
        assert read_titles(user_client) == ["Send receipts: 3 succeeded"]
        assert '-body" dir="auto"><' in user_client.get(INBOX).content.decode()
        Notification.objects.filter(title="Send receipts 1").update(level="error", body="The printer is out.")
        page = user_client.get(INBOX).content.decode()
        assert '-body" dir="auto">Send receipts 1 · The printer is out.<' in page

    def test_jobs_of_a_task_that_declares_a_title(self, user_client, user):
        """That is the name, in the reader's language, whatever the titles of the jobs are."""
        for number in (12, 40, 7):
            finish_job(
                job(user, title=f"Check {number} URLs", task_path="asyncsite.tasks.check_urls"), uuid7()
            )
        user_client.cookies["django_language"] = "de"
        assert read_titles(user_client) == ["URL-Prüfungen: 3 erfolgreich"]

    @pytest.mark.parametrize(
        ("declared", "titles", "name"),
        [
            ("Nightly import", ["Import of a.csv", "b.csv failed"], "Nightly import"),
            ("Import up to {{now}}", ["a", "b"], "Import up to {now}"),
            ('Import of "{file}" started', ['Import of "a b" started', 'Import of "a c" started'], "Import"),
            ("Report #{id}: ready", ["Report #7: ready", "Report #8: ready"], "Report"),
            ("From {a} to {b}", ["From A to B", "From C to D"], "Answer blank"),
            ("Copy ({a})", ["Copy (nightly) 1", "Copy (nightly) 2"], "Copy (nightly)"),
            ("Copy 'all' {a}", ["Copy 'all' 1", "Copy 'all' 2"], "Copy 'all'"),
            ("Yearly report for {year}", ["2026 is ready", "2025 has failed"], "Answer blank"),
            ("Mail [{list}", ["Mail [a", "Mail [b"], "Mail"),
            ("Re{number}", ["Re1", "Re2"], "Answer blank"),
            ("{file} imported", ["a imported", "b imported"], "Answer blank"),
            ("", ["Import of a", "Import of b"], "Import"),
            ("", ["a", "b"], "Answer blank"),
        ],
    )
    def test_the_name_where_titles_differ(self, user_client, user, settings, declared, titles, name):
        """No part of a title with arguments leaves a hole."""
        options = {"policies": {PATH: {"title": declared}}}
        settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": options}}
        for title in (titles[0], *titles):
            finish_job(job(user, title=title, task_path=PATH), uuid7())
        assert [unescape(title) for title in read_titles(user_client)] == [f"{name}: 3 succeeded"]

    def test_a_category_and_target_of_one_day(self, user_client, user):
        for number in range(3):
            notify(user, f"Comment {number}", category="comment", target="Report 7")
        notify(user, "Comment elsewhere", category="comment", target="Report 8")
        notify(user, "Comment on nothing", category="comment")
        assert read_titles(user_client) == [
            "Comment on nothing",
            "Comment elsewhere",
            "Report 7: 3 updates",
        ]

    def test_of_another_day_is_another_group(self, user, set_now):
        ids = notify(user, "Comment", category="comment", target="Report 7")
        moment = Notification.objects.get().created_at
        set_now(moment + timedelta(days=1))
        ids += notify(user, "Comment", category="comment", target="Report 7")
        keys = Notification.objects.filter(id__in=ids).values_list("group_key", flat=True)
        assert len(set(keys)) == 2

    def test_a_notify_function_names_one(self, user_client, user):
        for _ in range(2):
            import_rows.using(owner=user).enqueue()
        run_jobs()
        assert read_titles(user_client) == ["Imports: 2 succeeded"]

    @pytest.mark.parametrize(("group", "error"), [("x" * 101, ValueError), (5, TypeError), (" ", ValueError)])
    def test_a_bad_name_is_refused(self, user, group, error):
        with pytest.raises(error, match="group"):
            notify(user, "Import", group=group)


class TestSelection:
    """A form names groups beside notifications, each with the position up to which it is shown."""

    def test_groups_and_notifications_are_changed_and_undone_as_one(self, user_client, user, other_user):
        """What arrives after the page was loaded stays, and is not undone."""
        notify(user, "Old")
        (single,) = notify(user, "Single")
        notify_imports(user)
        notify_imports(other_user)
        fields = read_form(user_client)
        ((box,), _) = fields.pop("groups"), fields.pop("id")
        notify(user, "Import 6", level="success", group="Imports")
        chosen = {**fields, "id": [str(single)], "groups": [box], "verb": "archive"}
        response = user_client.post(f"{INBOX}mark/", chosen)
        page = user_client.get(response["Location"]).content.decode()
        assert "7 moved to Done." in page
        assert read_titles(user_client) == ["Import 6", "Old"]
        assert Notification.objects.filter(user=other_user, archived_at=None).count() == 6
        changed = re.search(r'name="changed" value="([^"]+)"', page)[1]
        user_client.post(f"{INBOX}undo/", {"changed": changed})
        assert read_titles(user_client) == ["Imports: 1 failed, 6 succeeded", "Single", "Old"]

    def test_the_page_selects_groups_and_says_how_many_they_are(self, user_client, user):
        notify(user, "Single")
        notify_imports(user)
        assert (
            read_form(user_client).get("groups") == read_form(user_client, f"{INBOX}?selected=page")["groups"]
        )
        page = user_client.get(f"{INBOX}?selected=page").content.decode()
        assert len(re.findall(r'name="(?:id|groups)"[^>]* checked', page)) == 2
        assert 'data-count="6"' in page

    @pytest.mark.parametrize(("path", "name"), [("mark", "one"), ("snooze", "until")])
    def test_a_button_of_a_row_changes_no_group_that_is_checked(self, user_client, user, path, name):
        """Both are in one form."""
        (single,) = notify(user, "Single")
        notify_imports(user)
        verb = {"one": "archive", "until": "tomorrow"}[name]
        fields = {**read_form(user_client), name: f"{verb}.{single}"}
        assert fields["groups"]
        assert user_client.post(f"{INBOX}{path}/", fields).status_code == 303
        assert read_titles(user_client) == ["Imports: 1 failed, 5 succeeded"]

    @pytest.mark.parametrize(
        ("path", "fields"), [("mark", {"verb": "unread"}), ("snooze", {"until": "hours"})]
    )
    def test_what_groups_do_not_have_changes_nothing_and_says_so(self, user_client, user, path, fields):
        """The toolbar of a page without a style sheet offers it."""
        notify(user, "Single")
        notify_imports(user)
        Notification.objects.update(read_at=times.now())
        page = user_client.post(f"{INBOX}{path}/", {**read_form(user_client), **fields}, follow=True).text
        assert "Groups can only be marked as read or moved to Done." in page
        assert not Notification.objects.filter(read_at=None).exists()
        assert read_titles(user_client) == ["Imports: 1 failed, 5 succeeded", "Single"]

    def test_groups_that_are_not_valid_or_too_many_change_nothing(self, user_client, user):
        notify_imports(user)
        fields = {**read_form(user_client), "verb": "archive"}
        for groups in (["x.n:Imports"], ["1."]):
            assert user_client.post(f"{INBOX}mark/", {**fields, "groups": groups}).status_code == 400
        response = user_client.post(f"{INBOX}mark/", {**fields, "groups": fields["groups"] * 26})
        assert response.status_code == 422
        assert "Select at most 25 groups." in response.text
        assert read_titles(user_client) == ["Imports: 1 failed, 5 succeeded"]

    def test_a_large_group_continues_in_the_background(self, user_client, user, set_marking):
        notify_imports(user)
        fields = read_form(user_client)
        set_marking(REQUEST_SECONDS=0)
        response = user_client.post(f"{INBOX}mark/", {**fields, "verb": "archive"})
        assert "continues in the background" in user_client.get(response["Location"]).content.decode()
        run_duty("mark notifications as read")
        assert read_titles(user_client) == []


def test_the_part_for_an_open_page_has_the_row_of_a_group(user_client, user):
    """With what is left of it after a change, down to nothing; of another user's nothing."""
    ids = notify(user, "Import 1", level="error", group="Imports") + notify(user, "Import 2", group="Imports")
    url = f"{find_group_url(user_client)}&part=views"
    assert read_titles(user_client, url) == ["Imports: 1 failed, 1 update"]
    for id, titles in zip(ids, (["Imports: 1 update"], []), strict=True):
        Notification.objects.filter(id=id).update(archived_at=times.now(), seq=None)
        assert read_titles(user_client, url) == titles


class TestMarking:
    def test_done_moves_all_of_a_group_and_no_other(self, user_client, user, other_user):
        notify_imports(user)
        notify_imports(other_user)
        notify(user, "Other")
        page = press(user_client, "archive.n:Imports")
        assert "6 moved to Done." in page
        assert read_titles(user_client) == ["Other"]
        assert Notification.objects.filter(user=other_user, archived_at=None).count() == 6
        undo = dict(re.findall(r'name="(query|changed)" value="([^"]*)"', page))
        user_client.post(f"{INBOX}undo/", undo)
        assert read_titles(user_client) == ["Other", "Imports: 1 failed, 5 succeeded"]

    def test_an_open_inbox_is_answered_without_the_list(self, user_client, user):
        """It changes its rows itself: it needs what was changed, and the form that undoes it."""
        notify_imports(user)
        form = {"query": "", "up_to": "6", "group": "archive.n:Imports", "part": "message"}
        page = user_client.post(f"{INBOX}mark/", form, follow=True).text
        assert "6 moved to Done." in page and "Undo" in page and "<html" not in page and len(page) < 1_000

    def test_read_leaves_the_group_and_newer_ones(self, user_client, user):
        notify_imports(user)
        Notification.objects.filter(title="Import 1").update(archived_at=times.now(), seq=None)
        assert "5 marked as read." in press(user_client, "read.n:Imports")
        assert Notification.objects.get(title="Import 1").read_at is None
        assert read_titles(user_client, f"{INBOX}?view=unread") == []
        assert read_titles(user_client) == ["Imports: 1 failed, 4 succeeded"]
        notify(user, "Import new", group="Imports")
        page = user_client.get(INBOX).content.decode()
        assert 'value="read.n:Imports"' in page and "data-unread" in page

    def test_done_in_the_view_of_what_is_unread(self, user_client, user):
        notify_imports(user)
        press(user_client, "archive.n:Imports", f"{INBOX}?view=unread")
        assert read_titles(user_client) == []

    def test_a_large_group_continues_in_the_background(self, user_client, user, set_marking):
        notify_imports(user, 30)
        set_marking(REQUEST_SECONDS=0)
        page = press(user_client, "archive.n:Imports")
        assert "This continues in the background." in page
        notify(user, "Import new", group="Imports")
        run_duty("mark notifications as read")
        assert read_titles(user_client) == ["Import new"]

    @pytest.mark.parametrize(
        "value", ["archive", "archive.", "unread.n:Imports", "delete.n:Imports", "archive." + "x" * 103]
    )
    def test_a_bad_verb_or_group_changes_nothing(self, user_client, user, value):
        notify_imports(user)
        response = user_client.post(f"{INBOX}mark/", {"up_to": "6", "group": value})
        assert response.status_code == 400
        assert Notification.objects.filter(read_at=None, archived_at=None).count() == 6


class TestPages:
    def test_a_group_is_on_the_page_of_its_newest_notification_only(
        self, user_client, user, set_grouping, set_lists
    ):
        """Through pages older and back newer, each row is listed once, as an independent reading of all rows says."""
        set_lists(PAGE_SIZE=4)
        set_grouping(MAX_ROWS_SCANNED=7)
        set_grouping(MAX_GROUPS=3)
        chance = random.Random(7)
        for number in range(80):
            group = chance.choice(["", "", "A", "B", "C", f"G{number // 9}"])
            notify(user, f"{number}", group=group)
        Notification.objects.filter(title__in=[str(n) for n in range(0, 80, 5)]).update(
            archived_at=times.now()
        )
        rows = Notification.objects.filter(archived_at=None).order_by("-raised")
        sizes = Counter(row.group_key for row in rows if row.group_key)
        expected, shown = [], set()
        for row in rows:
            if sizes[row.group_key] < 2:
                expected.append(row.title)
            elif row.group_key not in shown:
                shown.add(row.group_key)
                expected.append(f"{row.group_key[2:]}: {sizes[row.group_key]} updates")
        assert {"A", "B", "C"} <= {key[2:] for key in shown}
        url, older = INBOX, []
        while url:
            older += read_titles(user_client, url)
            last, url = url, find_page(user_client, url, "next")
        assert older == expected
        url, newer = find_page(user_client, last, "prev"), read_titles(user_client, last)
        while url:
            titles = read_titles(user_client, url)
            newer = titles + [title for title in newer if title not in titles]
            url = find_page(user_client, url, "prev")
        assert newer == expected

    def test_more_of_one_group_than_one_query_reads(self, user_client, user, set_grouping):
        set_grouping(MAX_ROWS_SCANNED=10)
        notify(user, "Old")
        notify_imports(user, 60)
        assert read_titles(user_client) == ["Imports: 1 failed, 59 succeeded"]
        assert read_titles(user_client, find_page(user_client, INBOX, "next")) == ["Old"]

    def test_more_than_are_counted(self, user_client, user, set_grouping):
        set_grouping(MAX_COUNTED=5)
        set_grouping(MIN_COUNTED=5)
        for number in range(9):
            notify(user, f"Import {number}", body="Of today", group="Imports")
        assert read_titles(user_client) == ["Imports (5+)"]
        assert "5 updates" not in user_client.get(INBOX).content.decode()

    def test_as_many_as_are_counted(self, user_client, user, set_grouping):
        """Of the unread and of the read ones. The counts of all are shown."""
        set_grouping(MAX_COUNTED=5)
        set_grouping(MIN_COUNTED=5)
        for number in range(5):
            notify(user, f"Import {number}", body="Of today", group="Imports")
        assert read_titles(user_client) == ["Imports: 5 updates"]
        Notification.objects.update(read_at=times.now())
        for number in range(5):
            notify(user, f"Import {number}", body="Of today", group="Imports")
        assert read_titles(user_client) == ["Imports: 10 updates"]

    def test_filters_list_single_notifications(self, user_client, user):
        notify_imports(user, 3)
        assert read_titles(user_client, f"{INBOX}?q=Import") == ["Import 2", "Import 1", "Import 0"]
        assert read_titles(user_client, f"{INBOX}?level=error") == ["Import 2"]
        assert read_titles(user_client, f"{INBOX}?group=n:None") == []

    @pytest.mark.parametrize("group", ["x" * 103, "a\0b"])
    def test_a_bad_group_is_an_error_of_the_request(self, user_client, group):
        assert user_client.get(INBOX, {"group": group}).status_code == 400


def find_page(client, url, rel):
    links = re.findall(rf'href="([^"]*)" rel="{rel}"', client.get(url).content.decode())
    return unescape(links[0]) if links else None
