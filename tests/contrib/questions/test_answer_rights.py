"""Rights to answer questions that are lost and gained while the question is open."""

import json

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import Group, Permission
from django.core.exceptions import PermissionDenied
from django.core.management import call_command
from django.db import connection

from notifications.contrib.questions import answer
from notifications.contrib.questions.models import AskedQuestion
from notifications.models import Job, Notification, Stream
from notifications.testing import run_jobs
from tests.contrib.questions import forms, question_tasks
from tests.support.duties import run_duty
from tests.support.threads import run_in_threads

pytestmark = [
    pytest.mark.database_law,
    pytest.mark.django_db(transaction=True),
    pytest.mark.nightly_on_postgres,
]

CODENAME, PERMISSION = "view_job", "notifications.view_job"
KINDS = ("user", "group", "permission", "staff")


@pytest.fixture
def asker(user):
    """The owner of the jobs, who is not asked."""
    return user


@pytest.fixture
def subject(other_user):
    """Who loses or gains the right to answer."""
    return other_user


@pytest.fixture
def group():
    return Group.objects.create(name="shop")


@pytest.fixture
def grant(group, subject):
    """grant(kind) gives the right to answer, grant(kind, False) takes it away."""

    def grant(kind, is_given=True, user=subject):
        match kind:
            case "user":
                get_user_model().objects.filter(pk=user.pk).update(is_active=is_given)
            case "group":
                (group.user_set.add if is_given else group.user_set.remove)(user)
            case _:
                codename = CODENAME if kind == "permission" else "answer_question"
                permission = Permission.objects.get(codename=codename)
                (user.user_permissions.add if is_given else user.user_permissions.remove)(permission)

    return grant


@pytest.fixture
def ask(asker, subject, make_user, group, grant):
    """ask(kind) asks the subject, by this kind of right, and another one, who keeps the right. Returns the question."""
    other = make_user("carol")

    def ask(kind):
        if kind != "user":
            grant(kind, user=other)
        to = {
            "user": [subject.pk, other.pk],
            "group": group.pk,
            "permission": PERMISSION,
            "staff": [other.pk],
        }[kind]
        task = question_tasks.ask_sync if kind in ("user", "staff") else question_tasks.ask_staff_of
        arguments = {"to": to} if task is question_tasks.ask_sync else {"kind": kind, "key": to}
        result = task.using(owner=asker).enqueue(**arguments)
        run_jobs()
        return AskedQuestion.objects.get(job=result.id)

    return ask


def page(wait):
    return f"/notifications/jobs/{wait.job}/questions/{wait.id}/"


def post(client, surface, wait):
    if surface == "page":
        return client.post(page(wait), {"value": "yes"})
    path = f"/notifications/api/jobs/{wait.job}/answers/{wait.id}/"
    return client.post(path, json.dumps({"value": "yes"}), content_type="application/json")


def update_once():
    run_duty("update who is asked open questions")


def update():
    """Do the duty, as every five minutes. The second time it finds nothing to do."""
    update_once()
    rows = list(Notification.objects.order_by("id").values())
    update_once()
    assert list(Notification.objects.order_by("id").values()) == rows


def notes_of(user):
    return list(Notification.objects.filter(user=user).order_by("id"))


@pytest.mark.parametrize("surface", ["page", "API"])
@pytest.mark.parametrize("is_shown_before", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_lost_right_does_not_answer(kind, is_shown_before, surface, ask, grant, subject, client_of):
    """Neither after the form was shown nor before. Sessions of deactivated users end."""
    grant(kind)
    wait = ask(kind)
    client = client_of(subject)
    refused = {"page": 302, "API": 401} if kind == "user" else {"page": 404, "API": 404}
    if is_shown_before:
        assert client.get(page(wait)).status_code == 200
    grant(kind, False)
    if not is_shown_before:
        assert client.get(page(wait)).status_code == refused["page"]
    assert post(client, surface, wait).status_code == refused[surface]
    assert AskedQuestion.objects.get().ended_at is None
    with pytest.raises(PermissionDenied):  # who knows the user from before
        answer(wait.job, "ship", "yes", user=subject)
    call_command("notifications", "jobs", "answer", str(wait.job), "yes")  # for operators, without a user
    assert AskedQuestion.objects.get().how == "answered"


@pytest.mark.parametrize("surface", ["page", "API"])
@pytest.mark.parametrize("is_shown_before", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_gained_right_answers(kind, is_shown_before, surface, ask, grant, subject, client_of):
    """Without waiting for the notification. Before, nothing is shown."""
    grant(kind, False)
    wait = ask(kind)
    assert not notes_of(subject)
    if not is_shown_before and kind != "user":
        client = client_of(subject)
        assert client.get(page(wait)).status_code == 404
        assert post(client, surface, wait).status_code == 404
    grant(kind)
    client = client_of(subject)
    if is_shown_before:
        assert client.get(page(wait)).status_code == 200
    assert post(client, surface, wait).status_code in (200, 303)
    assert AskedQuestion.objects.get().ended_by_id == subject.pk


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_closed_when_its_user_loses_the_right(kind, ask, grant, subject):
    """It keeps its text, says why, and does not show who answers later. Another one can still answer."""
    closed = "You cannot answer this question any more."
    grant(kind)
    wait = ask(kind)
    if kind == "staff":  # asked because nobody else was left
        get_user_model().objects.filter(username="carol").update(is_active=False)
        update()
    (shown,) = notes_of(subject)
    assert shown.open_question and Stream.objects.get(user=subject).unread == 1
    grant(kind, False)
    if kind == "staff":
        get_user_model().objects.filter(username="carol").update(is_active=True)
    update()
    (note,) = notes_of(subject)
    assert note.read_at and note.open_question is None and note.seq
    # Without a body of its own an open question shows the title of its job.
    body = "" if shown.body == "Ask staff of" else shown.body
    assert (note.title, note.body) == (shown.title, "\n".join(filter(None, (closed, body))))
    data = json.loads(note.data)
    assert data["question"]["choices"] == json.loads(shown.data)["question"]["choices"]
    assert data["question"]["ended"]["how"] == "withdrawn" and "actions" not in data
    assert Stream.objects.get(user=subject).unread == 0
    answer(wait.job, "ship", "yes", user=get_user_model().objects.get(username="carol"))
    (note,) = notes_of(subject)
    assert json.loads(note.data) == data


@pytest.mark.parametrize("kind", ["user", "group", "permission"])
def test_who_gains_the_right_is_notified(kind, ask, grant, subject):
    """Once, and again after it was lost and gained. Others keep their notification."""
    grant(kind, False)
    wait = ask(kind)
    (other,) = Notification.objects.all()
    for count in (1, 2):
        grant(kind)
        update()
        notes = notes_of(subject)
        assert len(notes) == count
        assert notes[-1].open_question == wait.id and json.loads(notes[-1].data)["actions"]
        assert "Reminder" not in notes[-1].body
        assert Stream.objects.get(user=subject).unread == 1
        if count == 1:
            grant(kind, False)
            update()
    assert notes_of(other.user_id) == [other]
    answer(wait.job, "ship", "yes", user=subject)
    assert not Notification.objects.exclude(open_question=None).exists()


def test_the_item_of_the_job_follows_the_right_of_its_owner(ask, grant, asker, client_of):
    """Its page does so at once."""
    wait = ask("group")
    client, path = client_of(asker), f"/notifications/jobs/{wait.job}/"
    for is_given in (True, False):
        version = Job.objects.get().version
        grant("group", is_given, user=asker)
        assert (b'value="yes"' in client.get(path).content) is is_given
        update()
        job = Job.objects.get()
        item = client.get(f"/notifications/api/jobs/{job.id}/").json()
        assert bool(item["waiting"]) is is_given and job.version > version


def test_a_reminder_goes_to_those_who_may_answer(ask, grant, subject, asker):
    wait = ask("permission")
    grant("permission")
    grant("permission", False, user=get_user_model().objects.get(username="carol"))
    AskedQuestion.objects.update(remind_at=wait.created_at)
    run_jobs()
    assert [note.user_id for note in Notification.objects.exclude(open_question=None)] == [subject.pk]


def test_at_most_100_are_asked(ask, group, django_user_model):
    """Those who are asked stay, while they have the right. Others take the places of those who leave."""
    users = django_user_model.objects.bulk_create(
        [django_user_model(username=f"user{number}") for number in range(102)]
    )
    group.user_set.add(*users[3:])
    ask("group")

    def asked():
        return {note.user_id for note in Notification.objects.exclude(open_question=None)}

    first = asked()
    group.user_set.add(*users[:3])
    update()
    assert asked() == first and len(first) == 100
    group.user_set.remove(users[101])
    update()
    assert asked() == first - {users[101].pk} | {users[0].pk}


class TestProjectCode:
    """Authentication backends, managers and forms of the project."""

    @pytest.fixture
    def backend(self, settings):
        settings.AUTHENTICATION_BACKENDS = [
            f"{__name__}.{kind.__name__}" for kind in (NotingBackend, ModelBackendOfTests)
        ]
        NotingBackend.calls, NotingBackend.refused, NotingBackend.error = [], set(), None
        return NotingBackend

    def test_it_is_not_called_in_a_transaction(self, backend, ask, grant, subject, client_of):
        grant("permission")
        wait = ask("permission")
        update()
        AskedQuestion.objects.update(remind_at=wait.created_at)
        run_jobs()
        assert post(client_of(subject), "API", wait).status_code == 200
        assert backend.calls and not any(backend.calls)

    def test_a_backend_that_refuses_overrules_those_that_find_users(self, backend, ask, grant, subject):
        backend.refused = {subject.pk}
        grant("permission")
        wait = ask("permission")
        update()
        assert not notes_of(subject)
        with pytest.raises(PermissionDenied):
            answer(wait.job, "ship", "yes", user=subject)

    def test_nothing_changes_while_a_backend_fails(self, backend, ask, grant, subject, caplog):
        grant("permission")
        ask("permission")
        grant("permission", False)
        backend.error = OSError("The directory is away.")
        update()
        assert notes_of(subject)[0].open_question
        assert "The directory is away." in caplog.text and "Traceback" not in caplog.text
        backend.error = None
        update()
        assert notes_of(subject)[0].open_question is None

    def test_a_right_that_is_lost_while_the_form_is_validated(
        self, asker, subject, grant, client_of, monkeypatch
    ):
        """It is tested when the answer is stored, also if ``has_perm()`` was called before in the request."""
        grant("staff")
        question_tasks.ask_by_form.using(owner=asker).enqueue()
        run_jobs()
        wait = AskedQuestion.objects.get()
        clean = forms.Approval.clean

        def clean_slowly(form):
            grant("staff", False)
            return clean(form)

        monkeypatch.setattr(forms.Approval, "clean", clean_slowly)
        response = client_of(subject).post(page(wait), {"amount": "5", "approved": "on"})
        assert response.status_code == 404
        assert AskedQuestion.objects.get().ended_at is None

    def test_a_permission_that_only_a_backend_knows(self, settings, asker, subject, client_of):
        """It is found by the backend, and is not refused as one that does not exist."""
        settings.AUTHENTICATION_BACKENDS = [f"{__name__}.Directory"]
        question_tasks.ask_staff_of.using(owner=asker).enqueue("permission", "directory.approve")
        run_jobs()
        (note,) = Notification.objects.exclude(open_question=None)
        assert note.user_id == subject.pk
        assert post(client_of(subject), "API", AskedQuestion.objects.get()).status_code == 200


class Directory(ModelBackend):
    """Knows who may approve, without rows of permissions."""

    def with_perm(self, perm, is_active=True, include_superusers=True, obj=None):
        return get_user_model().objects.filter(username="bob" if perm == "directory.approve" else "")

    def has_perm(self, user, perm, obj=None):
        return perm == "directory.approve" and user.username == "bob"


class ModelBackendOfTests(ModelBackend):
    """Finds users, so that NotingBackend is asked first."""


class NotingBackend:
    """Notes whether it is called in a transaction, and refuses permissions to some users."""

    calls: list[bool] = []
    refused: set = set()
    error = None

    def authenticate(self, request, **credentials):
        return None

    def has_perm(self, user, permission, obj=None):
        self.calls.append(connection.in_atomic_block)
        if self.error:
            raise self.error
        if user.pk in self.refused:
            raise PermissionDenied
        return False


def test_answers_race_with_changes_of_the_group(asker, subject, group, make_user):
    """Whichever comes first, nobody keeps an open notification of a question that was answered."""
    other = make_user("carol")
    group.user_set.add(other)
    for _ in range(10):
        question_tasks.ask_staff_of.using(owner=asker).enqueue("group", group.pk)
    run_jobs()
    jobs = list(Job.objects.all())

    def answer_all():
        for job in jobs:
            answer(job, "ship", "yes", user=other)

    def change():
        for number in range(6):
            (group.user_set.remove if number % 2 else group.user_set.add)(subject)
            update_once()

    run_in_threads(answer_all, change, update_once)
    run_jobs()
    assert {job.state for job in Job.objects.all()} == {"succeeded"}
    assert not Notification.objects.exclude(open_question=None).exists()
    assert Stream.objects.get(user=other).unread == 0
    assert not Notification.objects.filter(user=subject, read_at=None).exists()
