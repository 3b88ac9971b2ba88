"""notify() writes lazy texts in the language of each reader, where ``USER_LANGUAGE`` names it."""

import json

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import translation
from django.utils.dates import WEEKDAYS
from django.utils.text import format_lazy

from notifications.api import notify
from notifications.jobs import reader_languages
from notifications.models import Notification

pytestmark = pytest.mark.django_db(transaction=True)

MONDAY, TUESDAY = WEEKDAYS[0], WEEKDAYS[1]


@pytest.fixture(autouse=True)
def german_request(settings):
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "USER_LANGUAGE": "last_name"}
    with translation.override("de"):
        yield


@pytest.fixture
def readers():
    """Users whose language is German, French, French of a region, unknown, and one that the site does not have."""
    model = get_user_model()
    return model.objects.bulk_create(
        model(username=f"user{number}", last_name=language)
        for number, language in enumerate(["de", "fr", "fr-ca", "", "tlh"])
    )


def titles_of(ids):
    found = dict(Notification.objects.values_list("id", "title"))
    return [found[id] for id in ids]


@pytest.mark.parametrize("in_transaction", [False, True])
def test_lazy_texts_are_in_the_language_of_each_reader(readers, in_transaction):
    """Where it is not known, they are in that of the thread. The ids are in the order of the users."""
    if in_transaction:
        with transaction.atomic():
            ids = notify(readers, MONDAY, body=TUESDAY)
    else:
        ids = notify(readers, MONDAY, body=TUESDAY)
    assert titles_of(ids) == ["Montag", "lundi", "lundi", "Montag", "Montag"]
    assert Notification.objects.get(id=ids[1]).body == "mardi"
    assert translation.get_language() == "de"


@pytest.mark.parametrize(
    ("fields", "read", "german", "french"),
    [
        ({"body": MONDAY}, lambda row: row.body, "Montag", "lundi"),
        ({"group": MONDAY}, lambda row: row.group_key, "n:Montag", "n:lundi"),
        ({"actor": MONDAY}, lambda row: json.loads(row.data)["actor"]["name"], "Montag", "lundi"),
        (
            {"target": {"name": MONDAY, "url": "/"}},
            lambda row: json.loads(row.data)["target"]["name"],
            "Montag",
            "lundi",
        ),
        (
            {"actions": [{"label": MONDAY, "url": "/"}]},
            lambda row: json.loads(row.data)["actions"][0]["label"],
            "Montag",
            "lundi",
        ),
        ({"body": format_lazy("{}, 7", MONDAY)}, lambda row: row.body, "Montag, 7", "lundi, 7"),
    ],
)
def test_each_text(readers, fields, read, german, french):
    ids = notify(readers[:2], "Report", **fields)
    assert [read(Notification.objects.get(id=id)) for id in ids] == [german, french]


def test_languages_are_read_once_and_for_lazy_texts_only(readers):
    for title, count in ((MONDAY, 1), ("Monday", 0)):
        with CaptureQueriesContext(connection) as queries:
            notify(readers, title)
        assert sum("last_name" in query["sql"] for query in queries) == count


@pytest.mark.parametrize("name", ["", "no_such_field"])
def test_without_a_language_of_users(readers, settings, name):
    """Texts are in the language of the thread. W035 reports a wrong name, which breaks nothing."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "USER_LANGUAGE": name}
    assert titles_of(notify(readers[:2], MONDAY)) == ["Montag", "Montag"]


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("", []),
        ("last_name", []),
        ("groups__name", []),
        ("langage", ["notifications.W035"]),
        ("profile__language", ["notifications.W035"]),
        ("last_name__nothing", ["notifications.W035"]),
        (7, []),
    ],
)
def test_check(settings, name, ids):
    """W035, with the fields that there are; another type is E003."""
    settings.NOTIFICATIONS = {"USER_LANGUAGE": name}
    messages = reader_languages.find_wrong_language()
    assert [message.id for message in messages] == ids
    assert all(repr(name) in message.message and "last_name" in message.hint for message in messages)
