"""Lazy texts of a question are in the language of each of those who are asked, where ``USER_LANGUAGE`` names it."""

import json
from datetime import timedelta

import pytest
from django.utils.translation import gettext_lazy

from notifications.api import policy, task
from notifications.contrib.questions import question
from notifications.contrib.questions.models import AskedQuestion
from notifications.contrib.questions.testing import answer_question
from notifications.models import Notification
from notifications.testing import clock, run_jobs

pytestmark = pytest.mark.django_db(transaction=True)


@task
@policy(max_attempts=1)
def ask_translated(to, remind_hours):
    return question(
        gettext_lazy("Monday"),
        name="sure",
        choices={"yes": gettext_lazy("Delete"), "no": gettext_lazy("No")},
        body=gettext_lazy("Save"),
        to=to,
        remind=[timedelta(hours=hours) for hours in remind_hours],
    )


ENGLISH = ("Monday", "Save", ["Delete", "No"])
GERMAN = ("Montag", "Speichern", ["Löschen", "Nein"])


@pytest.fixture(autouse=True)
def frozen(jobs_clock):
    return jobs_clock


@pytest.fixture
def addressees(settings, user, other_user, django_user_model):
    """An English job that has asked a German, an English, and one whose language the site does not have."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "USER_LANGUAGE": "last_name"}
    third = django_user_model.objects.create(username="third")
    for each, language in ((user, "de"), (other_user, "en"), (third, "tlh")):
        django_user_model.objects.filter(pk=each.pk).update(last_name=language)
    users = [user, other_user, third]
    ask_translated.using(owner=other_user).enqueue([each.pk for each in users], [1])
    run_jobs()
    return users


def read(user):
    """Return title, body and the labels of the buttons of the newest notification of a user."""
    row = Notification.objects.filter(user=user).latest("id")
    return row.title, row.body, [action["label"] for action in json.loads(row.data).get("actions", ())]


def test_the_notification(addressees):
    assert [read(user) for user in addressees] == [GERMAN, ENGLISH, ENGLISH]


def test_the_reminder(addressees):
    clock.advance(timedelta(hours=1))
    run_jobs()
    german, english, _ = [read(user) for user in addressees]
    assert german[0] == GERMAN[0] and german[2] == GERMAN[2]
    assert german[1] == "Erinnerung: Diese Frage ist noch offen.\nSpeichern"
    assert english[1] == "Reminder: this question is still open.\nSave"


def test_its_end(addressees):
    answer_question("yes", by=addressees[1])
    bodies = [read(user)[1] for user in addressees]
    assert "„Löschen“" in bodies[0] and bodies[0].endswith("\nSpeichern")
    assert bodies[1:] == ["You answered “Delete”.\nSave", "bob answered “Delete”.\nSave"]
    rows = [json.loads(Notification.objects.get(user=user).data) for user in addressees]
    assert [row["question"]["ended"]["label"] for row in rows] == ["Löschen", "Delete", "Delete"]


def test_its_page_is_in_the_language_of_the_request(addressees, user_client):
    wait = AskedQuestion.objects.get()
    path = f"/notifications/jobs/{wait.job}/questions/{wait.id}/"
    shown = user_client.get(path, headers={"Accept-Language": "de"}).content.decode()
    assert "Montag" in shown and "Löschen" in shown and "Monday" not in shown
