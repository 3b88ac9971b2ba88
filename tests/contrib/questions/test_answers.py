"""Answers by code of a project, the questions that ask a user, and what a task learns of its answer."""

import pickle
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser, Group
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied, ValidationError
from django.db import transaction
from django.http import QueryDict
from django.utils import translation

from notifications.api import get_job, jobs_of, policy, task
from notifications.contrib.questions import (
    Answer,
    Question,
    aanswer,
    answer,
    aopen_questions,
    open_questions,
    question,
    questions,
)
from notifications.contrib.questions.models import AskedQuestion
from notifications.contrib.questions.testing import answer_question
from notifications.exceptions import QuestionDoesNotExist, QuestionEnded
from notifications.jobs import cancel, retry
from notifications.models import Job, Notification, Stream
from notifications.testing import clock, run_jobs
from tests.contrib.questions import forms, question_tasks
from tests.contrib.questions.question_tasks import YES_NO

pytestmark = [pytest.mark.database_law, pytest.mark.django_db(transaction=True)]


@task
@policy(max_attempts=1)
def ask_who_twice(to):
    asked = [Question("Ship?", "ship", YES_NO, to=to), Question("Wrap?", "wrap", YES_NO, to=to)]
    question_tasks.calls.extend(questions(asked, details=True))
    question_tasks.calls.append(question("Send?", name="send", choices=YES_NO, to=to, details=True))


@pytest.fixture(autouse=True)
def calls(jobs_clock):
    question_tasks.calls.clear()
    return question_tasks.calls


def ask(owner, task=question_tasks.ask_sync, **arguments):
    """Enqueue a job and run it until it waits. Returns its id."""
    result = task.using(owner=owner).enqueue(**arguments)
    run_jobs()
    return result.id


class TestDetails:
    def test_who_has_answered(self, user, other_user, calls):
        job = ask(user, question_tasks.ask_who, to=other_user.pk)
        given = answer(job, "ship", "yes", user=other_user, via="Slack")
        run_jobs()
        [details] = calls
        assert details == given
        assert details == Answer(
            value="yes", user=other_user, answered_at=AskedQuestion.objects.get().ended_at, via="Slack"
        )
        assert details.answered_at.tzinfo and get_job(job).result == "yes"

    def test_a_later_attempt_gets_the_same(self, user, calls):
        job = ask(user, question_tasks.ask_who)
        answer(job, "ship", "yes", user=user, via="Slack")
        cancel([job])
        retry([job])
        run_jobs()
        Job.objects.filter(id=job).update(state="failed")
        retry([job])
        run_jobs()
        assert calls[0] == calls[1] and calls[0].user == user

    def test_a_user_who_is_deleted(self, user, other_user, calls):
        job = ask(user, question_tasks.ask_who, to=other_user.pk)
        answer(job, "ship", "yes", user=other_user, via="Slack")
        other_user.delete()
        run_jobs()
        [details] = calls
        assert (details.value, details.user, details.via) == ("yes", None, "Slack")

    def test_a_user_who_is_deactivated(self, user, other_user, calls):
        job = ask(user, question_tasks.ask_who, to=other_user.pk)
        answer(job, "ship", "yes", user=other_user)
        type(other_user).objects.filter(pk=other_user.pk).update(is_active=False)
        run_jobs()
        assert calls[0].user == other_user

    def test_the_default(self, user, calls):
        ask(user, question_tasks.ask_who, expires_ms=1000)
        clock.advance(timedelta(seconds=2))
        run_jobs()
        assert calls == [Answer(value="no", user=None, answered_at=None, via="")]

    def test_several(self, user, other_user, calls):
        job = ask(user, ask_who_twice, to=[user.pk, other_user.pk])
        answer(job, "wrap", "no", user=user)
        answer(job, "ship", "yes", user=other_user)
        run_jobs()
        answer_question("yes")
        run_jobs()
        found = [(details.value, details.user, details.via) for details in calls]
        assert found[-3:] == [("yes", other_user, ""), ("no", user, ""), ("yes", None, "test")]


class TestTheEndOfTheJob:
    """A task that says nothing of its success has done what it was told: "Succeeded." would be odd after a "No"."""

    @pytest.mark.parametrize("task", [question_tasks.ask, question_tasks.ask_sync])
    def test_after_an_answer_of_the_owner(self, user, task):
        job = ask(user, task)
        Job.objects.filter(id=job).update(language="de")
        answer(job, "ship", "no", user=user)
        run_jobs()
        end = Notification.objects.get(user=user, key=f"job:{job}")
        assert (end.level, end.body) == ("success", "Fertig. Sie haben mit „Keep“ geantwortet.")

    def test_after_an_answer_of_another_user(self, user, other_user):
        job = ask(user, to=other_user.pk)
        answer(job, "ship", "no", user=other_user)
        run_jobs()
        # What was answered may be a secret of the job.
        assert Notification.objects.get(user=user, key=f"job:{job}").body == "Finished."

    def test_without_an_answer(self, user):
        job = ask(user, expires_ms=1000, default="no")
        clock.advance(timedelta(seconds=2))
        run_jobs()
        end = Notification.objects.get(user=user, key=f"job:{job}")
        assert end.body == "Finished. Nobody answered in time."

    @pytest.mark.parametrize(("language", "said"), [("en", "You answered “Keep”"), ("de", "„Keep“ geantw")])
    def test_the_row_of_the_question_has_the_answer_once(self, user, user_client, language, said):
        """In the language of who has answered. That of the end has it in that of the job, without the state."""
        job = ask(user)
        with translation.override(language):
            answer(job, "ship", "no", user=user)
        run_jobs()
        end = Notification.objects.get(key=f"job:{job}")
        page = user_client.get(f"/notifications/{end.id}/").content.decode().partition("<main")[2]
        assert page.count("Finished. You answered “Keep”.") == 1 and "Succeeded" not in page
        asked = Notification.objects.get(user=user, title="Ship?")
        page = user_client.get(f"/notifications/{asked.id}/").content.decode()
        shown, *_ = page.split("<details")
        assert shown.count("“Keep”") + shown.count("„Keep“") == shown.count(said) == 1
        assert '<strong dir="auto">Finished</strong>' in shown


class TestAnswer:
    def test_the_job_goes_on(self, user, user_client):
        job = ask(user)
        answer(get_job(job), "ship", "yes", user=user.pk, via="x" * 101)
        assert AskedQuestion.objects.get().ended_with == "x" * 100
        run_jobs()
        assert get_job(job).result == "yes"
        row = Notification.objects.get(user=user, title="Ship?")
        assert row.read_at and row.body.startswith("You answered “Ship”.\n")

    async def test_async(self, user):
        result = await question_tasks.ask_sync.using(owner=user).aenqueue()
        await sync_to_async(run_jobs)()
        [asked] = await aopen_questions(user)
        assert (await aanswer(str(result.id), asked.name, "yes", user=user)).user == user
        assert await aopen_questions(user) == []

    def test_the_fields_of_a_form(self, user):
        job = ask(user, question_tasks.ask_by_form)
        with pytest.raises(ValidationError) as caught:
            answer(job, "approve", {"amount": "1001", "approved": "on"}, user=user)
        assert list(caught.value.message_dict) == ["amount"]
        own = forms.Approval({})
        own.is_valid()
        own.add_error(None, caught.value)  # as a view of a project shows it
        assert any("1000" in str(error) for error in own.errors["amount"])
        given = answer(job, "approve", QueryDict("amount=5&approved=on"), user=user)
        assert given.value == {"amount": "5", "due": None, "approved": True, "reason": ""}

    @pytest.mark.parametrize("value", ["maybe", None, ["yes"], {"value": "yes"}])
    def test_a_value_that_is_no_choice(self, user, value):
        job = ask(user)
        with pytest.raises(ValidationError, match="value must be one of 'yes', 'no'"):
            answer(job, "ship", value, user=user)
        assert AskedQuestion.objects.get().ended_at is None

    def test_a_choice_for_a_form(self, user):
        job = ask(user, question_tasks.ask_by_form)
        with pytest.raises(ValidationError, match="The answer must be an object"):
            answer(job, "approve", "yes", user=user)

    def test_a_form_that_fails(self, user):
        job = ask(user, question_tasks.ask_by_form, form="tests.contrib.questions.forms.Failing")
        with pytest.raises(RuntimeError, match="The question stays open"):
            answer(job, "approve", {"text": "x"}, user=user)

    def test_who_was_not_asked(self, user, other_user, monkeypatch):
        """Neither does the form run for them."""
        job = ask(user, question_tasks.ask_by_form)
        monkeypatch.setattr(forms.Approval, "clean", lambda form: pytest.fail("The form was called."))
        for wrong in (other_user, other_user.pk):
            with pytest.raises(PermissionDenied, match="The user was not asked 'approve'"):
                answer(job, "approve", {"amount": "5", "approved": "on"}, user=wrong)
        type(user).objects.filter(pk=user.pk).update(is_active=False)
        with pytest.raises(PermissionDenied):
            answer(job, "approve", {"amount": "5", "approved": "on"}, user=user)
        assert AskedQuestion.objects.get().ended_at is None

    @pytest.mark.parametrize("wrong", [None, AnonymousUser()])
    def test_no_user(self, user, wrong):
        """A sender who is not found must not answer as staff."""
        job = ask(user)
        for call in (lambda: answer(job, "ship", "yes", user=wrong), lambda: open_questions(wrong)):
            with pytest.raises(ValueError, match=r"is not a saved user|An anonymous user has no inbox"):
                call()

    def test_an_answer_before(self, user, other_user):
        job = ask(user, to=[user.pk, other_user.pk])
        answer(job, "ship", "yes", user=user, via="Slack")
        for reader, words in ((other_user, "ada answered “Ship”, "), (user, "You answered “Ship”, ")):
            with pytest.raises(QuestionEnded) as caught:
                answer(job, "ship", "no", user=reader)
            assert str(caught.value).startswith(words) and str(caught.value).endswith(", Slack.")
            assert caught.value.how == "answered"
        copied = pickle.loads(pickle.dumps(caught.value))
        assert (str(copied), copied.how) == (str(caught.value), "answered")

    def test_one_that_has_expired(self, user):
        job = ask(user, expires_ms=1000, default="no")
        clock.advance(timedelta(seconds=2))
        with pytest.raises(QuestionEnded, match="Nobody answered in time") as caught:
            answer(job, "ship", "yes", user=user)
        assert caught.value.how == AskedQuestion.objects.get().how == "expired"

    def test_one_whose_job_was_cancelled(self, user):
        job = ask(user)
        cancel([job])
        with pytest.raises(QuestionEnded, match="The job was cancelled") as caught:
            answer(job, "ship", "yes", user=user)
        assert caught.value.how == "cancelled"

    def test_one_that_does_not_exist(self, user):
        job = ask(user)
        for id, name in ((job, "send"), (uuid4(), "ship"), ("no id", "ship")):
            with pytest.raises(QuestionDoesNotExist, match=f"has no question '{name}'") as caught:
                answer(id, name, "yes", user=user)
        assert isinstance(caught.value, ObjectDoesNotExist)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
        with pytest.raises(TypeError, match="is no job"):
            answer(7, "ship", "yes", user=user)

    def test_in_a_transaction(self, user):
        """It is undone with it. No stream is locked until the commit."""
        job = ask(user)
        head = Stream.objects.get(user=user).head
        with transaction.atomic():
            answer(job, "ship", "yes", user=user)
            assert Stream.objects.get(user=user).head == head
            transaction.set_rollback(True)
        assert AskedQuestion.objects.get().ended_at is None and open_questions(user)
        with transaction.atomic():
            answer(job, "ship", "yes", user=user)
        row = Notification.objects.get(user=user)
        assert row.seq == Stream.objects.get(user=user).head > head
        run_jobs()
        assert get_job(job).result == "yes"


def test_what_the_jobs_of_a_user_wait_for(user, other_user, django_assert_num_queries):
    """All that is open, also what does not ask their owner, in one query for all jobs."""
    job = ask(user, question_tasks.ask_several, names=["a", "b", "c"])
    ask(user, to=other_user.pk, expires_ms=60_000)
    answer(job, "b", "yes", user=user)
    with django_assert_num_queries(2):
        single, several = jobs_of(user)
    assert [(wait.kind, wait.name, wait.title, wait.until) for wait in several.waiting] == [
        ("question", "a", "a?", None),
        ("question", "c", "c?", None),
    ]
    [wait] = single.waiting
    assert (wait.name, wait.title) == ("ship", "Ship?") and wait.until > single.created_at


class TestOpenQuestions:
    def test_what_they_say(self, user):
        job = ask(user, expires_ms=60_000)
        wait = AskedQuestion.objects.get()
        [found] = open_questions(user.pk)
        assert (found.job_id, found.name, found.title) == (UUID(job), "ship", "Ship?")
        assert (found.body, found.choices, found.danger) == (
            "To the new address.",
            question_tasks.YES_NO,
            [],
        )
        assert (found.form, found.page) == ("", f"/notifications/jobs/{job}/questions/{wait.id}/")
        assert (found.created_at, found.expires_at) == (wait.created_at, wait.due_at)
        assert found.expires_at - found.created_at == timedelta(minutes=1)

    def test_those_of_a_form_and_with_danger(self, user):
        ask(user, question_tasks.ask_by_form)
        ask(user, question_tasks.ask_danger)
        danger, form = open_questions(user)  # newest first
        assert danger.danger == ["delete"] and danger.expires_at is None
        assert (form.form, form.choices) == ("tests.contrib.questions.forms.Approval", None)
        assert open_questions(user, limit=1) == [danger]

    def test_only_those_that_the_user_may_answer(self, user, other_user, admin_user):
        group = Group.objects.create(name="shop")
        group.user_set.add(user, other_user)
        job = ask(user, question_tasks.ask_staff_of, kind="group", key=group.pk)
        assert len(open_questions(user)) == len(open_questions(other_user)) == 1
        assert open_questions(admin_user) == []
        answer(job, "ship", "yes", user=admin_user)  # who has the permission
        assert open_questions(user) == []

    def test_not_those_whose_right_is_lost(self, user, other_user):
        """Before their notification is closed."""
        group = Group.objects.create(name="shop")
        group.user_set.add(user, other_user)
        ask(user, question_tasks.ask_staff_of, kind="group", key=group.pk)
        group.user_set.remove(other_user)
        assert Notification.objects.get(user=other_user).open_question
        assert open_questions(other_user) == []
        ask(user, to=[user.pk, other_user.pk])
        ask(user, question_tasks.ask_staff_of, kind="group", key=group.pk)
        row = Notification.objects.filter(user=user).latest("id")
        # As if asked before leaving the group.
        Notification.objects.filter(pk=row.pk).update(user=other_user)
        assert [asked.name for asked in open_questions(other_user, limit=1)] == ["ship"]
        type(user).objects.filter(pk=user.pk).update(is_active=False)
        assert open_questions(user) == []

    @pytest.mark.parametrize("limit", [0, -1, True, "1", None])
    def test_a_wrong_limit(self, user, limit):
        with pytest.raises(ValueError, match="It must be an integer of 1 or more"):
            open_questions(user, limit=limit)

    def test_the_number_of_statements_does_not_depend_on_the_rows(self, user, django_assert_max_num_queries):
        for count in (1, 20):
            for _ in range(count):
                question_tasks.ask_sync.using(owner=user).enqueue()
            run_jobs()
            with django_assert_max_num_queries(3):
                assert open_questions(user)


class TestOwnEnd:
    """The end of a job that follows from the answer of its owner."""

    def read_unread(self, user):
        rows = Notification.objects.filter(user=user, read_at=None, archived_at=None)
        assert (Stream.objects.get(user=user).unread if rows else 0) == len(rows)
        return list(rows.values_list("category", flat=True))

    def test_it_is_read(self, user):
        for _ in range(2):
            answer(ask(user), "ship", "yes", user=user)
        run_jobs()
        assert Notification.objects.filter(user=user, category="job", archived_at=None).count() == 2
        assert self.read_unread(user) == [] and Stream.objects.get(user=user).unread == 0

    def test_that_of_the_answer_of_another_is_unread(self, user, other_user):
        answer(ask(user, to=other_user.pk), "ship", "yes", user=other_user)
        run_jobs()
        assert self.read_unread(user) == ["job"]

    def test_a_later_one_is_unread(self, user, jobs_clock):
        answer(ask(user), "ship", "yes", user=user)
        jobs_clock.advance(61)
        run_jobs()
        assert self.read_unread(user) == ["job"]
