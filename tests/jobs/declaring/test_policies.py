"""The options of @policy: title, attempts, timeout, concurrency key and notification."""

import pytest
from django.utils import translation

from notifications.api import policy
from notifications.models import Job
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.jobs.conftest import notifications_of


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"max_attempts": 0}, ValueError, "max_attempts is 0. It must be an integer of 1 or more."),
        ({"max_attempts": True}, ValueError, "max_attempts is True"),
        ({"max_attempts": 1.5}, ValueError, "max_attempts is 1.5"),
        ({"concurrency": 0}, ValueError, "concurrency is 0. It must be an integer of 1 or more."),
        ({"concurrency_key": 7}, TypeError, "concurrency_key must be a string, which may name arguments"),
        ({"timeout": 0}, ValueError, "timeout is 0. It must be a number of seconds above 0."),
        ({"timeout": float("nan")}, ValueError, "timeout is nan"),
        ({"timeout": "5"}, ValueError, "timeout is '5'"),
        ({"backoff": -1}, ValueError, "backoff is -1. It must be a number of seconds from 0 to 3,600."),
        ({"backoff": 3_601}, ValueError, "backoff is 3601"),
        ({"backoff": float("nan")}, ValueError, "backoff is nan"),
        ({"backoff": True}, ValueError, "backoff is True"),
        ({"backoff": [1, 2]}, ValueError, r"backoff is \[1, 2\]"),
        (
            {"retry_on": "OSError"},
            TypeError,
            "retry_on is 'OSError'. It must be an exception class or a tuple",
        ),
        ({"retry_on": (OSError, KeyboardInterrupt)}, TypeError, "It must be an exception class"),
        ({"retry_on": (OSError("now"),)}, TypeError, "It must be an exception class"),
        ({"notify": "yes"}, TypeError, "notify must be True, False or a function"),
        ({"colour": "red"}, TypeError, "colour"),
    ],
)
def test_wrong_policies_are_refused(options, error, words):
    with pytest.raises(error, match=words):
        policy(**options)


@pytest.mark.django_db
def test_a_title_can_contain_arguments():
    assert Job.objects.get(id=tasks.silent.enqueue(7).id).title == "Report 7"
    assert Job.objects.get(id=tasks.silent.enqueue(report_id="x").id).title == "Report x"


@pytest.mark.django_db
def test_the_default_title_is_the_functions_name():
    assert Job.objects.get(id=tasks.noop_sync.enqueue().id).title == "Noop sync"
    assert Job.objects.get(id=tasks.noop.using(title="Mine").enqueue().id).title == "Mine"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"title": "x" * 201}, "title has 201 characters"),
        ({"title": " "}, "title is empty"),
        ({"url": "javascript:alert(1)"}, "url is 'javascript"),
        ({"url": "//evil.example"}, "url is '//evil.example'"),
    ],
)
def test_invalid_titles_and_urls_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        tasks.noop.using(**options).enqueue()
    assert not Job.objects.exists()


@pytest.mark.parametrize("name", ["title", "concurrency_key"])
@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("Report {number}", r"'Report \{number\}' of task function names 'number'. It may name: .*report_id"),
        ("Report {}", "names ''"),
        ("Report {0}", "names '0'"),
        ("Report {report_id:{width}}", "names 'width'"),
        ("Report {report_id", "is not a valid format string"),
    ],
)
def test_a_template_that_names_no_argument_is_refused_at_declaration(name, template, words):
    """The error has the template and the names that it may contain."""

    def function(report_id):
        pass

    with pytest.raises(ValueError, match=words):
        policy(**{name: template})(function)


def test_templates_that_can_only_be_checked_with_arguments():
    from notifications.jobs.declaring.policies import job_title

    @policy(title="Report {number}", concurrency_key="report:{owner}")
    def function(**options):
        pass

    assert job_title(function, False, [], {"number": 5}) == "Report 5"
    with pytest.raises(ValueError, match=r"It may name: options"):
        job_title(function, False, [], {})


class TestDerivedTexts:
    """Titles and keys with user input are shortened or replaced, so that no input makes an enqueue fail."""

    @pytest.mark.parametrize(
        ("prompt", "title"),
        [
            ("x" * 300, f"Answer: {'x' * 191}…"),
            ("x" * 192, f"Answer: {'x' * 192}"),
        ],
    )
    def test_a_title_is_shortened_to_the_maximum(self, db, prompt, title):
        tasks.answer.enqueue(prompt)
        assert Job.objects.get().title == title

    def test_a_title_without_words_is_the_functions_name(self, db):
        tasks.answer_blank.enqueue(" ")
        assert Job.objects.get().title == "Answer blank"

    def test_keys_that_are_shortened_stay_different(self, db):
        for end in "abb":
            tasks.answer.enqueue("x" * 300 + end)
        one, *same = Job.objects.order_by("id").values_list("concurrency_key", flat=True)
        assert same[0] == same[1] != one
        assert len(one) == 200

    def test_an_error_meant_for_its_owner_is_shortened(self, user):
        tasks.fail_for_owner.using(owner=user).enqueue("x" * 3000)
        run_jobs()
        assert notifications_of(user)[0].body == "x" * 1999 + "…"


@pytest.mark.django_db
class TestNotify:
    def test_the_default_notification(self, user):
        """It has the job's title and URL, success or failure, and a key of the job."""
        result = tasks.noop.using(owner=user, title="Mine", url="/mine/").enqueue()
        failed = tasks.fail.using(owner=user).enqueue("secret")
        run_jobs()
        good, bad = notifications_of(user)
        assert (good.title, good.body, good.level, good.url) == ("Mine", "Succeeded.", "success", "/mine/")
        assert (good.category, good.key, str(good.job)) == ("job", f"job:{result.id}", result.id)
        assert (bad.title, bad.level) == ("Fail", "error")
        assert bad.url == f"/notifications/jobs/{failed.id}/"
        assert "secret" not in bad.body, "The text of an exception may contain internals."
        assert bad.body == "The job stopped because of an error."

    @pytest.mark.parametrize(
        ("value", "language", "body"),
        [
            (5, "en", "5"),
            (1234567, "de", "1234567"),
            (-0.5, "de", "-0,5"),
            (0.1 + 0.2, "en", "0.3"),
            ([0] * 12, "en", "12 rows"),
            ([0], "en", "1 row"),
            ([], "en", "0 rows"),
            ("a secret", "en", "Succeeded."),
            ({"ada@example.com": 3}, "en", "Succeeded."),
            (True, "en", "Succeeded."),
            (None, "de", "Erfolgreich."),
        ],
    )
    def test_a_number_or_a_count_is_what_came_of_it(self, user, value, language, body):
        """In the language of its owner. A text may be a secret."""
        with translation.override(language):
            tasks.echo.using(owner=user).enqueue(value)
        run_jobs()
        assert [notification.body for notification in notifications_of(user)] == [body]

    @pytest.mark.parametrize(("value", "body"), [(None, ""), (12, "12")])
    def test_the_title_of_a_notify_function_says_what_happened(self, user, value, body):
        tasks.ready.using(owner=user, title="Export 2026").enqueue(value)
        run_jobs()
        (notification,) = notifications_of(user)
        assert (notification.title, notification.body) == ("Export 2026 is ready", body)

    def test_an_error_that_is_meant_for_its_owner(self, user):
        tasks.fail_for_owner.using(owner=user).enqueue("The address is missing.")
        run_jobs()
        assert notifications_of(user)[0].body == "The address is missing."

    def test_notify_false(self, user):
        tasks.silent.using(owner=user).enqueue(1)
        run_jobs()
        assert notifications_of(user) == []
        assert Job.objects.get().state == "succeeded"

    def test_a_notify_function_returns_the_notification(self, user):
        tasks.told.using(owner=user).enqueue("42")
        run_jobs()
        (notification,) = notifications_of(user)
        assert (notification.title, notification.body) == ("succeeded: Told 42", "42")
        assert (notification.level, notification.data, notification.category) == ("warning", '{"n":1}', "job")

    def test_a_notify_function_returns_none(self, user):
        tasks.told.using(owner=user).enqueue("nothing")
        run_jobs()
        assert notifications_of(user) == []

    @pytest.mark.parametrize(
        "value", ["raise", "exit", "cancel", "last resort", "broken dict", "wrong name", "too long"]
    )
    def test_a_notify_function_that_fails(self, user, value, caplog):
        """The owner gets the default notification, and the failure is logged."""
        tasks.told.using(owner=user).enqueue(value)
        run_jobs()
        assert [notification.title for notification in notifications_of(user)] == [f"Told {value}"]
        assert Job.objects.get().state == "succeeded"
        assert "Host code failed: notify function tests.jobs.tasks.words of job" in caplog.text

    def test_a_job_without_an_owner_makes_no_notification(self):
        from notifications.models import Notification

        tasks.noop.enqueue()
        run_jobs()
        assert not Notification.objects.exists()
