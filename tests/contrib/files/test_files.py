"""Files that jobs make: stored with the outcome, kept as long as their jobs, and removed with them."""

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from notifications.api import policy, progress, task
from notifications.contrib.files import aadd_file, add_file, result_file
from notifications.contrib.files.models import ResultFile, StoredObject
from notifications.contrib.steps import step
from notifications.inbox import read_message_rows
from notifications.jobs import retry
from notifications.models import Attempt, Job, Notification, Wait
from notifications.testing import run_jobs
from notifications.worker import current_execution
from tests.contrib.files import file_tasks
from tests.contrib.files.file_tasks import made, make
from tests.jobs.conftest import until_state

pytestmark = [pytest.mark.database_law, pytest.mark.django_db(transaction=True)]


@task
async def aexport():
    async def chunks():
        for number in range(3):
            yield f"chunk {number}\n"

    await aadd_file("chunks.txt", chunks())


@task
@policy(max_attempts=2, retry_on=ValueError, backoff=0)
def fail(times, name="orders.csv"):
    """Make a file in each attempt and fail in the first ``times``."""
    attempt = current_execution().job.attempt
    add_file(f"{attempt} {name}", [f"attempt {attempt}"])
    if attempt <= times:
        raise ValueError("no")


@task
def make_sparse(size):
    with result_file("sparse.bin") as file:
        file.truncate(size)


@task
@policy(max_attempts=1)
def make_in_transaction():
    with transaction.atomic(), result_file("a.txt") as file:
        file.write(b"text")


@task
async def make_on_loop():
    with result_file("a.txt") as file:
        progress(1, 1, "written")
        file.write(b"text")


@task
def break_off():
    try:
        with result_file("half.csv") as file:
            file.write(b"half")
            raise ValueError("no")
    except ValueError:
        pass


@task
@policy(max_attempts=1)
def in_steps(fails):
    """Make a file in a step, and one after it. ``fails``: the job fails if it has not made a file named so before."""
    step("first", make, "step.txt", 1)
    is_first = fails not in made
    if fails:
        made.append(fails)
    if fails and is_first:
        add_file("dropped.txt", ["dropped"])
        raise ValueError("no")
    add_file("after.txt", ["after"])


@task
@policy(max_attempts=1)
def break_off_step():
    """The step does not return at first, and makes a file with another name then."""

    def make_one():
        made.append("call")
        add_file(f"{len(made)}.txt", [str(len(made))])
        if len(made) == 1:
            raise ValueError("no")

    step("one", make_one)


@task
@policy(max_attempts=2, retry_on=ValueError, backoff=0)
def make_many(count):
    for number in range(count):
        add_file(f"{number}.txt", [])
    if current_execution().job.attempt == 1:
        raise ValueError("no")


def names():
    return list(ResultFile.objects.order_by("name").values_list("name", flat=True))


@task
@policy(max_attempts=2, retry_on=ValueError, backoff=0)
def make_in_first_attempt():
    if current_execution().job.attempt == 1:
        add_file("first.txt", ["first"])
        raise ValueError("no")


@task
def make_after_loss():
    """Another worker has the job meanwhile."""
    Job.objects.update(fence=99)
    add_file("late.txt", ["late"])


@task
@policy(notify=lambda job: {"data": {"actions": [{"label": "Open", "url": "/reports/7/"}]}})
def export_with_button():
    add_file("orders.csv", ["orders"])


class TestStoring:
    def test_a_file_of_a_job(self, user, stored):
        file_tasks.export.using(owner=user).enqueue()
        run_jobs()
        [file] = ResultFile.objects.all()
        assert stored() == ["0,größe 0\r\n1,größe 1\r\n"]
        assert (file.name, file.size, file.content_type) == (
            "orders.csv",
            len(stored()[0].encode()),
            "text/csv",
        )
        assert file.user_id == user.pk and file.job == Job.objects.get().pk
        assert timedelta(days=29) < file.expires_at - timezone.now() <= timedelta(days=30)

    def test_its_notification_offers_it(self, user):
        file_tasks.export.using(owner=user).enqueue()
        run_jobs()
        [shown] = read_message_rows(Notification.objects.all())
        assert [(action.label, action.href) for action in shown.actions()] == [
            ("Download", f"/notifications/files/{ResultFile.objects.get().pk}/")
        ]

    def test_buttons_of_its_task_stay(self, user):
        export_with_button.using(owner=user).enqueue()
        run_jobs()
        [shown] = read_message_rows(Notification.objects.all())
        assert names() == ["orders.csv"] and [action.label for action in shown.actions()] == ["Open"]

    def test_the_notification_of_several_leads_to_them(self, user):
        """Wherever the link of the job leads."""
        result = file_tasks.export_several.using(owner=user, url="/reports/7/").enqueue(["a.txt", "b.txt"])
        run_jobs()
        [shown] = read_message_rows(Notification.objects.all())
        assert [(action.label, action.href) for action in shown.actions()] == [
            ("Show files", f"/notifications/jobs/{result.id}/")
        ]

    @pytest.mark.urls("tests.core_urls")
    def test_without_the_urls_it_has_no_button(self, user, settings):
        settings.ROOT_URLCONF = "django.contrib.auth.urls"
        file_tasks.export.using(owner=user).enqueue()
        run_jobs()
        assert names() == ["orders.csv"] and "actions" not in Notification.objects.get().data

    def test_several(self, user, stored, remove):
        file_tasks.export_several.using(owner=user).enqueue(["a.txt", "b.txt", "a.txt"])
        run_jobs()
        assert names() == ["a.txt", "b.txt"]
        remove()
        assert stored() == ["1", "2"]  # the later one of each name

    def test_async(self, user, stored):
        aexport.using(owner=user).enqueue()
        run_jobs()
        assert names() == ["chunks.txt"] and stored() == ["chunk 0\nchunk 1\nchunk 2\n"]

    def test_of_a_retried_job_the_last_attempt_counts(self, user, stored, remove):
        fail.using(owner=user).enqueue(1)
        run_jobs()
        assert names() == ["2 orders.csv"]
        remove()
        assert stored() == ["attempt 2"]

    def test_of_a_retried_job_that_makes_none_in_the_end(self, user, stored, remove):
        make_in_first_attempt.using(owner=user).enqueue()
        run_jobs()
        assert Job.objects.get().state == "succeeded" and names() == []
        remove()
        assert stored() == []

    def test_of_a_job_that_another_worker_has(self, user, stored):
        make_after_loss.using(owner=user).enqueue()
        run_jobs()
        assert stored() == [] and not StoredObject.objects.exists()

    def test_a_job_that_fails_has_none(self, user, stored, remove):
        fail.using(owner=user).enqueue(2)
        run_jobs()
        assert Job.objects.get().state == "failed" and names() == []
        remove()
        assert stored() == [] and not StoredObject.objects.exists()

    def test_an_error_in_the_block_leaves_none(self, user, stored):
        break_off.using(owner=user).enqueue()
        run_jobs()
        assert Job.objects.get().state == "succeeded"
        assert names() == [] and stored() == []

    @pytest.mark.parametrize("name", ["", "a/b", "a\\b", "..", "a\nb", "fdp.\u202eexe", "x" * 151, 7])
    def test_bad_names(self, user, name):
        file_tasks.export_several.using(owner=user).enqueue([name])
        run_jobs()
        assert Job.objects.get().state == "failed" and not StoredObject.objects.exists()

    @pytest.mark.parametrize(
        "name", ["Größe 2\u202f024 «x».csv", "\u0645\u06cc\u200c\u0631.csv", 'a;"b".csv']
    )
    def test_names_of_people(self, user, name):
        file_tasks.export_several.using(owner=user).enqueue([name])
        run_jobs()
        assert names() == [name]

    @pytest.mark.parametrize(
        ("name", "content_type"),
        [
            ("a.csv", "text/csv"),
            ("a.csv.gz", "application/gzip"),
            ("a.tar.xz", "application/x-xz"),
            ("a.unknown", "application/octet-stream"),
        ],
    )
    def test_content_types_of_endings(self, user, name, content_type):
        file_tasks.export_several.using(owner=user).enqueue([name])
        run_jobs()
        assert ResultFile.objects.get().content_type == content_type

    @pytest.mark.parametrize("content_type", ["text", "text/csv\r\nX-Header: 1", "text/csv; größe=1", "/"])
    def test_content_types_that_are_no_header(self, user, content_type):
        file_tasks.export.using(owner=user).enqueue(content_type=content_type)
        run_jobs()
        assert Job.objects.get().state == "failed" and not StoredObject.objects.exists()

    @pytest.mark.parametrize("task", [file_tasks.export, make_sparse])
    def test_a_file_that_is_too_large(self, user, configure, stored, task):
        configure(max_bytes=10)
        task.using(owner=user).enqueue(11)
        run_jobs()
        assert Job.objects.get().state == "failed" and stored() == []

    def test_files_of_attempts_before_count_for_no_limit(self, user):
        make_many.using(owner=user).enqueue(51)
        run_jobs()
        assert Job.objects.get().state == "succeeded" and len(names()) == 51

    def test_too_many(self, user):
        make_many.using(owner=user).enqueue(101)
        run_jobs()
        assert Job.objects.get().state == "failed" and not names()

    def test_no_folder_of_a_job_stays(self, user, storage_path, remove):
        file_tasks.export_several.using(owner=user).enqueue(["a.txt"])
        file_tasks.export_several.using(owner=user).enqueue(["b.txt"])
        run_jobs()
        assert len({path.parent for path in storage_path.rglob("*.txt")}) == 1

    def test_outside_of_a_job(self):
        with pytest.raises(RuntimeError, match="made by a running job"), result_file("a.txt"):
            pass

    def test_inside_a_transaction(self, user, worker):
        """Rolled back, it would leave an object of which nothing knows."""
        result = make_in_transaction.using(owner=user).enqueue()
        until_state(result, "failed")
        assert "result_file() was called inside a transaction" in Attempt.objects.get().traceback
        assert not StoredObject.objects.exists()

    def test_on_the_event_loop(self, user):
        """Before the file is written, which may take hours."""
        result = make_on_loop.using(owner=user).enqueue()
        run_jobs()
        job = Job.objects.get(id=result.id)
        assert job.state == "failed" and "SynchronousOnlyOperation" in Attempt.objects.get().traceback
        assert job.progress_message == ""


@pytest.mark.with_all_apps("steps are another app")
class TestSteps:
    """A step that has returned is not called again, so its file is that of later executions."""

    @pytest.fixture(autouse=True)
    def forget(self):
        file_tasks.made.clear()

    def test_it_is_kept_until_the_job_is_retried_by_hand(self, user, stored, remove):
        result = in_steps.using(owner=user).enqueue("once")
        run_jobs()
        remove()
        assert Job.objects.get().state == "failed" and names() == [] and stored() == ["1"]
        assert retry([result.id])
        run_jobs()
        assert names() == ["after.txt", "step.txt"] and file_tasks.made.count("step.txt") == 1
        remove()
        assert stored() == ["1", "after"]

    def test_it_is_kept_through_a_pause(self, user, stored, remove):
        file_tasks.pause_after_step.using(owner=user).enqueue()
        run_jobs()
        assert Job.objects.get().state == "waiting"
        remove()
        assert stored() == ["1"]
        Wait.objects.update(due_at=timezone.now() - timedelta(seconds=1))
        run_jobs()
        assert names() == ["after.txt", "before.txt", "step.txt"]
        remove()
        assert stored() == ["1", "after", "before"]

    def test_it_is_not_kept_if_the_job_is_retried_from_its_start(self, user, stored, remove):
        result = in_steps.using(owner=user).enqueue("once")
        run_jobs()
        assert retry([result.id], from_start=True)
        remove()
        assert stored() == []
        run_jobs()
        assert names() == ["after.txt", "step.txt"] and file_tasks.made.count("step.txt") == 2

    def test_of_a_step_that_is_called_again_the_last_call_counts(self, user, stored, remove):
        result = break_off_step.using(owner=user).enqueue()
        run_jobs()
        assert retry([result.id])
        run_jobs()
        assert names() == ["2.txt"]
        remove()
        assert stored() == ["2"]
