"""What is no file any more goes from the storage, and nothing else does."""

import io
import threading
from datetime import timedelta

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage
from django.core.management import call_command
from django.utils import timezone

from notifications.contrib.files.models import ResultFile, StoredObject
from notifications.contrib.files.removing import Remover, find_due
from notifications.extension import Upkeep, Where
from notifications.jobs import cancel
from notifications.models import Job
from notifications.testing import run_jobs
from notifications.worker import NoThread
from tests.contrib.files import file_tasks
from tests.support.duties import run_duty
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.database_law, pytest.mark.django_db(transaction=True)]


class Hanging(FileSystemStorage):
    """A storage that does not return from the removal of one object until ``go_on``, and raises at another."""

    hangs_at, raises_at = "", ""
    go_on = threading.Event()

    def delete(self, name):
        if name == self.hangs_at:
            self.go_on.wait(30)
        if name == self.raises_at:
            raise PermissionError(name)
        super().delete(name)


class Losing(FileSystemStorage):
    """While it saves, the process is frozen for so long that others run the job and remove its objects."""

    def save(self, *args, **options):
        name = super().save(*args, **options)
        StoredObject.objects.all().delete()
        return name


@pytest.fixture
def use_storage(settings, storage_path):
    def use(kind):
        backend = {"BACKEND": f"{__name__}.{kind.__name__}", "OPTIONS": {"location": storage_path}}
        settings.STORAGES = {**settings.STORAGES, "notifications_files": backend}

    return use


@pytest.fixture
def made(user):
    result = file_tasks.export.using(owner=user).enqueue()
    run_jobs()
    return Job.objects.get(id=result.id)


def expire(**fields):
    ResultFile.objects.filter(**fields).update(expires_at=timezone.now() - timedelta(seconds=1))


def make_due():
    StoredObject.objects.update(check_at=timezone.now() - timedelta(seconds=1))


def test_a_file_stays_and_is_looked_at_once_a_day(made, stored, remove):
    remove()
    assert len(stored()) == 1
    assert StoredObject.objects.get().check_at > timezone.now() + timedelta(hours=23)


def test_it_is_looked_at_when_it_expires(made, remove):
    expires_at = timezone.now() + timedelta(minutes=5)
    ResultFile.objects.update(expires_at=expires_at)
    remove()
    assert abs(StoredObject.objects.get().check_at - expires_at) < timedelta(milliseconds=1)


def test_it_goes_when_it_has_expired(made, stored, remove):
    expire()
    remove()
    assert stored() == [] and not StoredObject.objects.exists()
    assert ResultFile.objects.count() == 1  # the page says that it has expired


def test_it_goes_with_its_job(made, stored, remove):
    call_command("notifications", "prune", days=0, stdout=io.StringIO())
    assert not Job.objects.exists() and not ResultFile.objects.exists()
    remove()
    assert stored() == [] and not StoredObject.objects.exists()


def test_it_goes_with_its_user(made, user, stored, remove):
    user.delete()
    assert not ResultFile.objects.exists()
    remove()
    assert stored() == [] and not StoredObject.objects.exists()


@pytest.mark.with_all_apps("steps are another app")
def test_a_cancelled_job_keeps_none(user, stored, remove):
    result = file_tasks.pause_after_step.using(owner=user).enqueue()
    run_jobs()
    cancel([Job.objects.get().pk])
    remove()
    assert stored() == ["1"]  # it may be retried by hand
    call_command("notifications", "prune", days=0, stdout=io.StringIO())
    assert not Job.objects.filter(id=result.id).exists()
    remove()
    assert stored() == [] and not StoredObject.objects.exists()


def test_objects_stay_until_the_files_of_their_job_are_stored(made, stored, remove):
    """A hook that has failed is called later than its job ends."""
    ResultFile.objects.all().delete()
    remove()
    assert len(stored()) == 1


def test_one_at_which_the_storage_raises_or_hangs_holds_up_no_other(user, stored, use_storage, caplog):
    use_storage(Hanging)
    file_tasks.export_several.using(owner=user).enqueue(["a.txt", "b.txt", "c.txt", "d.txt"])
    run_jobs()
    expire()
    make_due()
    paths = dict(ResultFile.objects.values_list("name", "path"))
    Hanging.hangs_at, Hanging.raises_at = paths["a.txt"], paths["b.txt"]
    Hanging.go_on.clear()
    remover = Remover(seconds=0.2)
    process = Upkeep(Where.WORKER, seconds=60)
    [duty] = [duty for duty in process.duties if duty.name == "remove files"]
    duty.run = remover.remove
    try:
        process.run(duty)
        process.project_threads.end(30)
        assert stored() == ["0", "1"]
        assert {row.name for row in StoredObject.objects.all()} == {"a.txt", "b.txt"}
        assert not list(find_due())  # they are tried again later
        assert "Could not remove files" in caplog.text
    finally:
        Hanging.go_on.set()
    wait_until(lambda: stored() == ["1"], what="the call that hung to end")
    make_due()
    run_duty("remove files")
    assert [row.name for row in StoredObject.objects.all()] == ["b.txt"]
    Hanging.raises_at = ""


def test_a_storage_that_is_away_gets_few_threads(user, stored, use_storage):
    use_storage(Hanging)
    file_tasks.export_several.using(owner=user).enqueue(["a.txt"])
    run_jobs()
    expire()
    Hanging.hangs_at = ResultFile.objects.get().path
    Hanging.go_on.clear()
    remover, before = Remover(seconds=0.01), threading.active_count()
    try:
        for _ in range(10):
            make_due()
            with pytest.raises((TimeoutError, NoThread)):
                remover.remove(list(find_due()))
        assert threading.active_count() - before <= 5
    finally:
        Hanging.go_on.set()
    wait_until(lambda: stored() == [], what="the calls to end")


def test_what_is_written_after_its_removal_is_removed_again(user, storage_path, stored, remove):
    """A process that was frozen while it wrote writes the object when others have removed it."""
    StoredObject.objects.create(
        job=user.pk and "0193a5f0-0000-7000-8000-000000000000",
        fence=1,
        path="late.txt",
        name="late.txt",
        kept_seconds=1,
        check_at=timezone.now(),
    )
    remove()
    FileSystemStorage(storage_path).save("late.txt", ContentFile(b"late"))
    assert StoredObject.objects.get().check_at > timezone.now() + timedelta(hours=23)
    remove()
    assert stored() == [] and not StoredObject.objects.exists()


def test_a_writer_whose_object_was_removed_leaves_none(user, stored, use_storage):
    use_storage(Losing)
    file_tasks.export.using(owner=user).enqueue()
    run_jobs()
    assert Job.objects.get().state == "failed" and stored() == []


def test_a_file_that_is_gone_already(made, storage_path, remove):
    (storage_path / ResultFile.objects.get().path).unlink()
    expire()
    remove()
    assert not StoredObject.objects.exists()


@pytest.mark.long
def test_all_that_are_due_go_in_one_round(user, stored):
    file_tasks.export_several.using(owner=user).enqueue([f"{number}.txt" for number in range(60)])
    file_tasks.export_several.using(owner=user).enqueue([f"{number}.txt" for number in range(60)])
    run_jobs()
    expire()
    make_due()
    run_duty("remove files")
    assert stored() == [] and not StoredObject.objects.exists()
