"""The page and the API of preferences, and the page of unsubscribing."""

import re
from datetime import datetime, timedelta

import pytest
from django.core import mail, signing
from django.test import Client
from django.utils import timezone

from notifications.api import notify
from notifications.contrib.deliveries import preferences, unsubscribing
from notifications.contrib.deliveries.models import Preference, Reader
from tests.contrib.deliveries.conftest import (  # noqa: F401 (fixtures)
    by_email,
    choose,
    configure,
    outbox,
    private_key,
    read_choices,
    send_due,
)
from tests.contrib.deliveries.test_rules import mute

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]

PAGE, API = "/notifications/preferences/", "/notifications/api/preferences/"
CATEGORIES = {
    "export": {"name": "Exports", "description": "Files that are ready", "default": {"email": "daily"}},
    "security": {"name": "Security", "required": True},
}


@pytest.fixture
def user(make_user):
    return make_user("ada", email="ada@users.example")


@pytest.fixture
def client(user):
    client = Client(enforce_csrf_checks=False)
    client.force_login(user)
    return client


@pytest.fixture
def categories(configure):  # noqa: F811
    configure([{"email": 600}], CATEGORIES=CATEGORIES)


def fields_of(html):
    """Return the names and values that a browser would send with the first form of preferences."""
    form = re.search(r"<form[^>]*>(?:(?!</form>).)*?notifications-preferences.*?</form>", html, re.S).group()
    fields = {}
    for name, value in re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', form):
        fields.setdefault(name, []).append(value)
    for name, checked in re.findall(r'type="checkbox" name="([^"]+)" value="on"( checked)?', form):
        fields[name] = ["on" if checked else "off"]
    for name, options in re.findall(r'<select name="([^"]+)".*?>(.*?)</select>', form, re.S):
        selected = re.search(r'value="([^"]*)" selected', options) or re.search(r'value="([^"]*)"', options)
        fields[name] = [selected[1]]
    return fields


class TestPage:
    def test_quiet_hours(self, client, user, categories):
        """Every night by one press; afterwards by weekday, and none if no day has any."""
        client.post(PAGE, {"nights": "1"})
        assert Reader.objects.get(user=user).quiet_hours == [["22:00", "07:00"]] * 7
        fields = {f"quiet_{side}.{day}": "22:00" for day in range(7) for side in ("from", "to")}
        client.post(PAGE, {**fields, "quiet": "1", "quiet_on.5": "on", "quiet_to.5": "12:30"})
        assert Reader.objects.get(user=user).quiet_hours == [*[None] * 5, ["22:00", "12:30"], None]
        assert 'name="quiet_on.5" value="on" checked' in client.get(PAGE).content.decode()
        assert client.post(PAGE, {"quiet": "1", "quiet_on.5": "on"}).status_code == 400
        client.post(PAGE, {**fields, "quiet": "1"})
        assert Reader.objects.get(user=user).quiet_hours is None

    def test_one_field_is_saved_by_itself(self, client, user, categories):
        client.post(PAGE, {"digest_hour": "9"})
        client.post(PAGE, {"time_zone": "Europe/Paris"})
        reader = Reader.objects.get(user=user)
        assert (reader.digest_hour, reader.time_zone) == (9, "Europe/Paris")

    @pytest.mark.parametrize(("days", "label"), [(1, "For a day"), (7, "For a week"), (30, "For a month")])
    def test_a_category_is_off_for_a_time(self, client, user, categories, days, label):
        html = client.get(PAGE).content.decode()
        assert f'value="{days}.0" aria-label="Exports: {label}"' in html
        assert 'aria-label="Security: For a day"' not in html
        response = client.post(PAGE, {"category": ["export", "security"], "off": f"{days}.0"}, follow=True)
        assert "“Exports” is muted" in response.content.decode()
        html = client.get(PAGE).content.decode()
        assert "Off until" in html and 'name="email.0"' not in html
        off_until = client.get(API).json()["categories"][0]["off_until"]
        assert datetime.fromisoformat(off_until) - timezone.now() == pytest.approx(
            timedelta(days=days), abs=timedelta(minutes=1)
        )
        client.post(PAGE, {"category": ["export", "security"], "on": "0"})
        assert not Preference.objects.exists()

    @pytest.mark.parametrize("off", ["2.0", "7", "7.9", "7.1", "x.0"])
    def test_what_cannot_be_off(self, client, user, categories, off):
        assert client.post(PAGE, {"category": ["export", "security"], "off": off}).status_code in (400, 409)
        assert not Preference.objects.exists()

    def test_the_list_of_devices(self, client, user, configure, private_key):  # noqa: F811
        keys = {"private_key": private_key, "subject": "mailto:admin@site.example"}
        configure([{"push": 0}], WEB_PUSH=keys)
        html = client.get(PAGE).content.decode()
        assert "<notifications-push" in html and 'href="/notifications/devices/"' not in html
        configure([{"email": 0}], WEB_PUSH=keys)
        assert "<notifications-push" not in client.get(PAGE).content.decode()

    def test_the_place_of_quiet_hours(self, client, user, categories, settings):
        settings.TIME_ZONE = "Europe/Berlin"
        for zone, place in (("", "Berlin"), ("America/New_York", "New York"), ("UTC", "UTC")):
            preferences.change_reader(user.pk, time_zone=zone)
            html = client.get(PAGE).content.decode()
            assert html.count(f'<bdi data-zone="Europe/Berlin">{place}</bdi>') == 2

    def test_form_that_is_sent_unchanged_stores_nothing(self, client, user, categories):
        notify(user, "note", category="reports <1>")
        html = client.get(PAGE).content.decode()
        for text in ("Exports", "Files that are ready", "Security", "reports &lt;1&gt;", "Everything else"):
            assert text in html
        response = client.post(PAGE, fields_of(html), follow=True)
        assert "Your preferences are saved." in response.content.decode()
        assert read_choices(user) == {}

    def test_choices_are_stored_and_shown(self, client, user, categories):
        fields = fields_of(client.get(PAGE).content.decode())
        assert fields["category"] == ["export", "security", ""]
        fields |= {"bell.0": "off", "email.0": "weekly", "email.2": "off", "time_zone": "Asia/Tokyo"}
        fields |= {"digest_hour": "17", "digest_day": "4"}
        client.post(PAGE, fields)
        assert read_choices(user) == {
            ("export", "bell"): "off",
            ("export", "email"): "weekly",
            ("", "email"): "off",
        }
        reader = Reader.objects.get()
        assert (reader.time_zone, reader.digest_hour, reader.digest_day) == ("Asia/Tokyo", 17, 4)
        again = fields_of(client.get(PAGE).content.decode())
        assert {name: again[name] for name in ("bell.0", "email.0", "email.2", "digest_hour")} == {
            "bell.0": ["off"],
            "email.0": ["weekly"],
            "email.2": ["off"],
            "digest_hour": ["17"],
        }

    def test_others_are_listed_by_name(self, client, user, categories):
        """Whichever of them the user has chosen something for; an identifier as words."""
        for category in ("release_notes", "Zebras", "billing.failed", "audit-log", "2 b"):
            notify(user, "note", category=category)
        mute(user, "release_notes")
        html = client.get(PAGE).content.decode()
        names = re.findall(r'<th scope="row"><bdi>([^<]*)<', html)
        others = ["2 b", "Audit log", "Billing failed", "Release notes", "Zebras", "Everything else"]
        assert names == ["Exports", "Security", *others]
        assert 'value="release_notes"' in html

    def test_required_category_has_no_fields(self, client, categories):
        assert not {"bell.1", "email.1"} & set(fields_of(client.get(PAGE).content.decode()))

    @pytest.mark.parametrize(
        "fields",
        [
            {"category": "export", "email.0": "sometimes"},
            {"category": "security", "email.0": "off"},
            {"category": "\0", "email.0": "off"},
            {"category": "x" * 101, "email.0": "off"},
            {"digest_hour": "25"},
            {"digest_hour": "²"},
            {"digest_hour": "9" * 5000},
            {"digest_hour": "1", "time_zone": "Mars/Base"},
        ],
    )
    def test_bad_fields(self, client, user, categories, fields):
        """400, and nothing is stored."""
        assert client.post(PAGE, fields).status_code == 400
        assert not Preference.objects.exists() and not Reader.objects.exists()

    def test_pause_and_resume(self, client, user, categories):
        client.post(PAGE, {"pause": "8"})
        until = Reader.objects.get().paused_until
        assert timedelta(hours=7) < until - timezone.now() <= timedelta(hours=8)
        assert "Paused until" in client.get(PAGE).content.decode()
        client.post(PAGE, {"pause": "0"})
        assert Reader.objects.get().paused_until is None
        for hours in ("-1", "x", "9" * 5000, "10000", "0001" + "9" * 20, "¹"):
            client.post(PAGE, {"pause": hours})
            assert Reader.objects.get().paused_until is None

    def test_time_zone_that_is_not_offered_is_kept(self, client, user, categories):
        preferences.change_reader(user.pk, time_zone="UTC")
        html = client.get(PAGE).content.decode()
        assert re.search(r"<option selected>UTC</option>", html)

    def test_own_category_beside_many_declared_ones(self, client, user, configure):  # noqa: F811
        configure([{"email": 600}], CATEGORIES={f"c{n}": {} for n in range(150)})
        mute(user, "own")
        fields = fields_of(client.get(PAGE).content.decode())
        number = fields["category"].index("own")
        client.post(PAGE, {**fields, f"bell.{number}": "on", f"email.{number}": "on"})
        assert not Preference.objects.filter(channel__in=["bell", "email"]).exists()

    def test_required_category_cannot_be_muted(self, client, user, categories):
        notify(user, "note", category="security")
        assert 'value="security" formaction' not in client.get("/notifications/").content.decode()
        assert client.post("/notifications/mute/", {"category": "security"}).status_code == 409

    def test_dead_address_is_shown_until_it_is_tried_again(self, client, user, categories):
        Reader.objects.create(user_id=user.pk, dead_addresses={"email": "ada@users.example"})
        assert "Nothing more is sent to <bdi>ada@users.example</bdi>" in client.get(PAGE).content.decode()
        client.post(PAGE, {"revive": "email"})
        assert "Nothing more" not in client.get(PAGE).content.decode()

    def test_without_deliveries(self, client, user):
        """The bell only."""
        notify(user, "note", category="reports")
        html = client.get(PAGE).content.decode()
        assert fields_of(html).keys() == {"category", "bell.0", "csrfmiddlewaretoken"}
        assert "Pause" not in html

    def test_signed_out(self):
        assert Client().get(PAGE).status_code == 302


class TestApi:
    def test_read_and_change(self, client, user, categories):
        document = client.get(API).json()
        assert document["categories"][0] == {
            "category": "export",
            "name": "Exports",
            "description": "Files that are ready",
            "required": False,
            "channels": {"bell": "on", "email": "daily"},
            "off_until": None,
        }
        changes = {
            "categories": {"export": {"email": "off"}},
            "time_zone": "Europe/Paris",
            "digest_hour": 7,
            "quiet_hours": [["22:00", "07:00"], *[None] * 6],
            "paused_until": "2026-12-01T00:00:00Z",
        }
        changed = client.post(API, changes, content_type="application/json").json()
        assert changed["categories"][0]["channels"] == {"bell": "on", "email": "off"}
        assert (changed["time_zone"], changed["digest_hour"]) == ("Europe/Paris", 7)
        assert changed["quiet_hours"] == [["22:00", "07:00"], *[None] * 6]
        assert changed["paused_until"].startswith("2026-12-01T00:00:00")
        back = {"categories": {"export": {"email": None}}, "paused_until": None}
        changed = client.post(API, back, content_type="application/json").json()
        assert changed["categories"][0]["channels"]["email"] == "daily" and changed["paused_until"] is None
        # That of a clock that was wrong: deliveries are not paused either.
        Reader.objects.update(paused_until=timezone.now() + timedelta(days=3650))
        assert client.get(API).json()["paused_until"] is None

    @pytest.mark.parametrize(
        "body",
        [
            {"categories": "export"},
            {"categories": [{"export": {"email": "off"}}]},
            {"categories": {"export": "off"}},
            {"categories": {"export": {"email": 1}}},
            {"categories": {"export": {"fax": "off"}}},
            {"categories": {"security": {"email": "off"}}},
            {"categories": {"\0": {"email": "off"}}},
            {"categories": {"export": {"email": "off"}}, "digest_hour": 24},
            {"categories": {"export": {"email": "off"}}, "time_zone": "Mars/Base"},
            {"time_zone": 7},
            {"quiet_hours": [["22:00", "07:00"]]},
            {"quiet_hours": [["00:00", "00:00"]] * 7},
            {"paused_until": "tomorrow"},
            {"paused_until": "2026-13-01T00:00:00Z"},
            {"paused_until": "2026-12-01T00:00:00"},
            {"paused_until": "0001-01-01T00:00:00+23:59"},
            {"unknown": 1},
        ],
    )
    def test_bad_body(self, client, categories, body):
        """422, and nothing is stored."""
        response = client.post(API, body, content_type="application/json")
        assert response.status_code == 422 and response.json()["detail"]
        assert not Preference.objects.exists() and not Reader.objects.exists()

    def test_an_unknown_field(self, client):
        """The error names those that there are, which are those of the answer to a GET."""
        detail = client.post(API, {"quiet": None}, content_type="application/json").json()["detail"]
        assert "'quiet'" in detail
        assert [name for name in client.get(API).json() if name not in detail] == []

    def test_signed_out_and_without_a_token(self, user):
        assert Client().get(API).status_code == 401
        strict = Client(enforce_csrf_checks=True)
        strict.force_login(user)
        assert strict.post(API, {}, content_type="application/json").status_code == 403
        assert strict.put(API, {}, content_type="application/json").status_code == 405


class TestUnsubscribing:
    @pytest.fixture
    def link(self, user, by_email):  # noqa: F811
        """The path in the header of an e-mail of the category "export"."""
        notify(user, "The export is ready", category="export")
        send_due()
        headers = mail.outbox[0].extra_headers
        assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        return headers["List-Unsubscribe"].removeprefix("<https://site.example").removesuffix(">")

    def test_get_changes_nothing(self, link):
        """Scanners of e-mails open each link."""
        for _ in range(2):
            response = Client().get(link)
            assert (
                response.status_code == 200
                and "Unsubscribe from e-mails about “Export”?" in response.content.decode()
            )
            headers = Client().head(link).headers
            assert (headers["Referrer-Policy"], headers["X-Robots-Tag"]) == ("no-referrer", "noindex")
        assert not Preference.objects.exists()

    def test_one_click(self, link, user):
        """A program posts without cookies and token; the next notification is not sent."""
        strict = Client(enforce_csrf_checks=True)
        for _ in range(2):
            response = strict.post(link, {"List-Unsubscribe": "One-Click"})
            assert response.status_code == 200 and "no more e-mails" in response.content.decode()
        assert read_choices(user) == {("export", "email"): "off"}
        notify(user, "Second", category="export")
        notify(user, "Other", category="other")
        send_due()
        assert [email.subject for email in mail.outbox] == ["The export is ready", "Other"]

    def test_undo(self, link, user):
        Client().post(link)
        assert "You get these e-mails again." in Client().post(link, {"action": "undo"}).content.decode()
        assert read_choices(user) == {}

    @pytest.mark.parametrize("choice", ["hourly", "daily", "weekly"])
    @pytest.mark.parametrize("clicks", [1, 2])
    def test_undo_restores_what_was_chosen(self, link, user, choice, clicks):
        """Also after the program has unsubscribed by its own button before."""
        choose(user, {("export", "email"): choice})
        for _ in range(clicks):
            Client().post(link)
        assert read_choices(user) == {("export", "email"): "off"}
        Client().post(link, {"action": "undo"})
        assert read_choices(user) == {("export", "email"): choice}

    def test_undo_restores_a_choice_beside_a_default_that_is_off(self, link, user, settings):
        category = {"name": "Export", "email": "off"}
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "CATEGORIES": {"export": category}}
        choose(user, {("export", "email"): "daily"})
        Client().post(link)
        Client().post(link, {"action": "undo"})
        assert read_choices(user) == {("export", "email"): "daily"}

    def test_unmuting_does_not_undo_it(self, link, user):
        choose(user, {("export", "email"): "daily"})
        Client().post(link)
        mute(user, "export")
        client = Client()
        client.force_login(user)
        client.post("/notifications/unmute/", {"category": "export"})
        assert read_choices(user) == {("export", "email"): "off"}

    def test_link_is_that_of_one_user_and_category(self, link, user, other_user):
        Client().post(link)
        assert list(Preference.objects.values_list("user", "category")) == [(user.pk, "export")]

    def test_bad_links(self, link, user, settings):
        token = link.rstrip("/").rpartition("/")[2]
        foreign = signing.dumps([user.pk, "export"], salt="other")
        for bad in (token[:-1], token + "x", foreign, "x", "x" * 5000, ":", "a:b:c"):
            for method in (Client().get, Client().post):
                assert method(f"/notifications/unsubscribe/{bad}/").status_code == 404
        settings.SECRET_KEY = "another-key-" * 5
        assert Client().post(link).status_code == 404
        assert not Preference.objects.exists()

    def test_link_of_a_deleted_user(self, link, user):
        user.delete()
        assert Client().post(link).status_code == 404
        assert not Preference.objects.exists()

    def test_link_works_however_many_preferences_there_are(self, link, user):
        for number in range(100):
            choose(user, {(f"c{number}", "email"): "off"})
        Client().post(link)
        assert ("export", "email") in read_choices(user)

    def test_required_category(self, user, categories):
        notify(user, "note", category="security")
        send_due()
        (email,) = mail.outbox
        assert "List-Unsubscribe" not in email.extra_headers and "Unsubscribe" not in email.body
        link = f"/notifications/unsubscribe/{unsubscribing.make_token(user.pk, 'security')}/"
        assert "cannot be switched off" in Client().post(link).content.decode()
        assert not Preference.objects.exists()

    def test_all_digests(self, user, categories):
        choose(user, {("a", "email"): "weekly", ("b", "email"): "on", ("c", "email"): "off"})
        link = f"/notifications/unsubscribe/{unsubscribing.make_token(user.pk, None)}/"
        assert "put notifications together" in Client().get(link).content.decode()
        Client().post(link)
        found = {key: choice for (key, _), choice in read_choices(user).items()}
        assert found == {"export": "off", "a": "off", "b": "on", "c": "off"}
