"""What rows of the inbox page offer: actions, the reason, and muting their category."""

import re

import pytest

from notifications import times
from notifications.api import notify, unread_count
from notifications.contrib.deliveries.models import Preference
from notifications.inbox import read_numbered_position
from notifications.models import Job, Notification, uuid7
from tests.data.rows import finish_job, job

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_old_django]

INBOX = "/notifications/"


def read_page(client, url=INBOX):
    response = client.get(url)
    assert response.status_code == 200
    return response.content.decode()


class TestActions:
    def test_links_and_a_post_that_is_confirmed(self, user_client, user):
        actions = [
            {"label": "Approve", "post": "/approve/"},
            {"label": "Read", "url": "https://example.org/"},
        ]
        (id,) = notify(user, "Request", actions=actions, data={"n": 1})
        page = read_page(user_client)
        assert re.search(
            r'href="https://example.org/" rel="noopener noreferrer" aria-label="Read: Request">Read<', page
        )
        confirm = f"/notifications/{id}/actions/0/"
        assert f'href="{confirm}" data-post="/approve/" aria-label="Approve: Request">Approve<' in page
        page = read_page(user_client, confirm)
        assert f'<form class="notifications-confirm" method="post" action="{confirm}"' in page
        assert "csrfmiddlewaretoken" in page.partition("<main")[2]
        item = user_client.get("/notifications/api/notifications/").json()["items"][0]
        assert item["data"] == {"n": 1, "actions": actions}

    def test_what_was_done_is_not_offered_again(self, user_client, client_of, user, other_user):
        """The row keeps which action was done, for all devices; a second one is refused."""
        actions = [
            {"label": "Approve", "post": "/approve/"},
            {"label": "Decline", "post": "/decline/", "danger": "Ada has no access."},
            {"label": "View", "url": "/access/"},
        ]
        (id,) = notify(user, "Request", actions=actions, data={"n": 1})
        before = read_numbered_position(user.pk)
        url = f"{INBOX}{id}/actions/0/"
        assert client_of(other_user).post(url).status_code == 404
        assert user_client.post(f"{INBOX}{id}/actions/2/").status_code == 404
        assert user_client.post(url).status_code == 204
        row = Notification.objects.get()
        assert row.read_at and row.seq == before.seq + 1
        assert read_numbered_position(user.pk).unread == 0
        item = user_client.get("/notifications/api/notifications/").json()["items"][0]
        (done, *others) = item["data"].pop("actions")
        assert item["data"] == {"n": 1} and others == actions[1:]
        assert done == {**actions[0], "done": item["read_at"]}
        for page in (read_page(user_client), read_page(user_client, f"{INBOX}{id}/")):
            assert 'aria-disabled="true"><svg' in page and "data-post" not in page and "Decline" not in page
            assert 'href="/access/"' in page
        for number in (0, 1):
            response = user_client.post(f"{INBOX}{id}/actions/{number}/")
            assert response.status_code == 409
            for shown in (
                response.content.decode(),
                read_page(user_client, f"{INBOX}{id}/actions/{number}/"),
            ):
                assert "<h1>Approve</h1>" in shown and "Done · " in shown and "/approve/" not in shown
        assert Notification.objects.get().seq == row.seq

    def test_a_form_without_a_script_is_sent_once(self, user_client, client_of, user, other_user):
        """The page stores that it was sent, and leads on to the view of the project, which says what came of it."""
        actions = [{"label": "Approve", "post": "/approve/?x=1"}, {"label": "Decline", "post": "/decline/"}]
        (id,) = notify(user, "Request", actions=actions)
        url = f"{INBOX}{id}/actions/0/"
        assert client_of(other_user).post(url, {"form": "1"}).status_code == 404
        assert "Sent" not in read_page(user_client, url)
        response = user_client.post(url, {"form": "1"})
        assert (response.status_code, response["Location"]) == (307, "/approve/?x=1")  # with method and body
        row = Notification.objects.get()
        assert row.read_at and read_numbered_position(user.pk).unread == 0
        item = user_client.get("/notifications/api/notifications/").json()["items"][0]
        assert item["data"]["actions"] == [{**actions[0], "sent": item["read_at"]}, actions[1]]
        # A page that was loaded before, or is loaded again.
        response = user_client.post(url, {"form": "1"})
        assert response.status_code == 409
        for page in (response.content.decode(), read_page(user_client, url)):
            assert "Sent · " in page and "It is not known whether it was done." in page
            assert 'name="again"' in page and ">Send again<" in page
        # No list posts it in place.
        for page in (read_page(user_client), read_page(user_client, f"{INBOX}{id}/")):
            assert f'href="{url}"' in page and "/approve/" not in page and 'data-post="/decline/"' in page
        response = user_client.post(url, {"form": "1", "again": item["read_at"]})
        assert (response.status_code, response["Location"]) == (307, "/approve/?x=1")
        assert user_client.post(url).status_code == 204  # A script has posted it from a list that was older.
        response = user_client.post(url, {"form": "1", "again": item["read_at"]})
        assert response.status_code == 409 and "Done · " in response.content.decode()

    def test_what_is_no_action_that_posts_is_not_found(self, user_client, client_of, user, other_user):
        (id,) = notify(
            user, "Request", actions=[{"label": "Go", "url": "/"}, {"label": "Do", "post": "/do/"}]
        )
        for path in (f"{id}/actions/0/", f"{id}/actions/2/", f"{uuid7()}/actions/0/"):
            assert user_client.get(f"{INBOX}{path}").status_code == 404
        assert client_of(other_user).get(f"{INBOX}{id}/actions/1/").status_code == 404

    def test_actions_in_data_of_the_project_are_not_shown(self, user_client, user):
        """Their form is another one, and may lead anywhere."""
        for value in (
            "x",
            [{"label": "Go", "url": "javascript:alert(1)"}],
            [{"label": "x", "post": "//evil/"}],
        ):
            notify(user, "note", data={"actions": value})
        assert "notifications-actions" not in read_page(user_client)

    @pytest.mark.parametrize(
        ("actions", "message"),
        [
            ("x", "actions must be a list of dicts, not str."),
            (["x"], "actions[0] must be a dict, not str."),
            ([{"label": "a", "url": "/"}] * 4, "actions has 4 items. At most 3 are allowed."),
            (
                [{"label": "a"}],
                "actions[0] must have the keys 'label' and either 'url' or 'post', and may have 'danger'.",
            ),
            ([{"label": "a", "url": "/", "post": "/"}], "must have the keys"),
            ([{"label": "", "url": "/"}], "actions[0]['label'] is empty."),
            ([{"label": "a" * 41, "url": "/"}], "At most 40 are allowed."),
            ([{"label": "a", "url": ""}], "actions[0]['url'] is empty."),
            ([{"label": "a", "url": "javascript:x"}], "actions[0]['url'] is 'javascript:x'."),
            ([{"label": "a", "post": "https://example.org/"}], "must be a path of this site"),
            ([{"label": "a", "post": "//example.org/"}], "actions[0]['post'] is '//example.org/'."),
            ([{"label": "a", "post": "/", "danger": ""}], "actions[0]['danger'] is empty."),
            (
                [{"label": "a", "post": "/", "danger": True}],
                "actions[0]['danger'] must be a string, not bool.",
            ),
        ],
    )
    def test_invalid_actions(self, user, actions, message):
        with pytest.raises((TypeError, ValueError), match=re.escape(message)):
            notify(user, "note", actions=actions)

    def test_actions_given_twice(self, user):
        with pytest.raises(ValueError, match="data has the key 'actions' already"):
            notify(user, "note", data={"actions": []}, actions=[{"label": "a", "url": "/"}])


def read_detail(client):
    """Return the page of the only notification."""
    return read_page(client, f"{INBOX}{Notification.objects.get().pk}/")


class TestReason:
    """It is on the page of the notification."""

    def test_job(self, user_client, user):
        """The job is named where the title does not name it."""
        finish_job(row := job(user), uuid7())
        link = f'href="/notifications/jobs/{row.pk}/">'
        assert "Job details" not in read_detail(user_client)  # A button leads there.
        Notification.objects.update(url="/files/")
        assert f"<a {link}Job details</a>" in read_detail(user_client)
        Notification.objects.update(title="Your file is ready")
        assert f'Job <a dir="auto" {link}{row.title}</a>' in read_detail(user_client)

    def test_schedule(self, user_client, user):
        finish_job(row := job(user), uuid7())
        Job.objects.filter(pk=row.pk).update(schedule="nightly")
        assert "From the schedule nightly:" in read_detail(user_client)

    def test_number_of_queries_does_not_depend_on_the_rows(
        self, user_client, user, django_assert_max_num_queries
    ):
        for _ in range(25):
            finish_job(job(user), uuid7())
        read_page(user_client)
        with django_assert_max_num_queries(7):
            read_page(user_client)


class TestMuting:
    def test_mute_from_the_row_and_unmute(self, user_client, user):
        notify(user, "note", category="reports <1>")
        page = read_page(user_client)
        (category,) = re.findall(r'name="category" value="(.*?)" formaction="/notifications/mute/"', page)
        assert category == "reports &lt;1&gt;"
        response = user_client.post("/notifications/mute/", {"category": "reports <1>"}, follow=True)
        assert "“reports &lt;1&gt;” is muted." in response.content.decode()
        notify(user, "later", category="reports <1>")
        assert unread_count(user) == 1
        assert 'href="/notifications/preferences/"' in read_page(user_client)
        response = user_client.post("/notifications/unmute/", {"category": "reports <1>"}, follow=True)
        assert "is not muted any more." in response.content.decode()
        assert not Preference.objects.exists()

    def test_from_the_inbox_it_stays_there(self, user_client, user):
        """With a button that undoes it; a message that was made up is not shown."""
        notify(user, "note", category="R&D <1>")
        form = {"category": "R&D <1>", "query": "category=R%26D+%3C1%3E"}
        response = user_client.post("/notifications/mute/", form, follow=True)
        [(address, _)] = response.redirect_chain
        page = response.content.decode()
        assert address.startswith(f"{INBOX}?category=R%26D") and "“R&amp;D &lt;1&gt;” is muted." in page
        assert 'name="category" value="R&amp;D &lt;1&gt;">Undo</button>' in page
        page = user_client.post("/notifications/unmute/", form, follow=True).content.decode()
        assert "Undone." in page and not Preference.objects.exists()
        made_up = address.replace("changed=", "changed=x")
        assert made_up != address and "is muted" not in user_client.get(made_up).content.decode()

    def test_others_are_not_muted(self, user_client, other_user):
        user_client.post("/notifications/mute/", {"category": "reports"})
        notify(other_user, "note", category="reports")
        assert Notification.objects.get().read_at is None

    @pytest.mark.parametrize("category", ["", " ", "x" * 101, "\0"])
    def test_invalid_category(self, user_client, category):
        """400, not 500."""
        for path in ("mute/", "unmute/"):
            assert user_client.post(INBOX + path, {"category": category}).status_code == 400

    def test_too_many(self, user_client, user):
        fields = {"user": user, "channel": "email", "choice": "off", "changed_at": times.now()}
        Preference.objects.bulk_create(Preference(category=f"{number}", **fields) for number in range(100))
        response = user_client.post("/notifications/mute/", {"category": "b"})
        assert (response.status_code, b"too many categories" in response.content) == (409, True)
