"""What a job says about its work decides nothing: texts are cut and made printable, numbers are made to fit."""

import pytest

from notifications.api import notify, progress, track
from notifications.contrib.output.testing import output as stored_output
from notifications.models import Job, Notification, Wait
from notifications.testing import run_jobs
from tests.jobs.conftest import until_done
from tests.jobs.decorating_tasks import DECORATIONS, LONG, UNDECODABLE, ask, decorate, decorate_async, noop

pytestmark = pytest.mark.database_law


def test_it_fails_no_job(worker, user):
    """Each succeeds, whatever it reports: in a text too long, undecodable, with NUL, or of another type."""
    jobs = until_done(*(task.enqueue(name) for task in (decorate, decorate_async) for name in DECORATIONS))
    failed = [
        f"{job.task_path} {job.args}: {job.error}"
        for job in jobs
        if (job.state, job.result) != ("succeeded", '"done"')
    ]
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("progress message long", (1, 2, "x" * 199 + "…")),
        ("progress message lazy", (1, 2, "x" * 199 + "…")),
        ("progress message undecodable", (1, 2, "caf\ufffd.csv")),
        ("progress message nul", (1, 2, "a\ufffdb")),
        ("progress message none", (1, 2, "")),
        ("progress message number", (1, 2, "3")),
        ("progress message unspeakable", (1, 2, "")),
        ("progress number None", (0, None, "")),
        ("progress number -1", (0, 0, "")),
        (f"progress number {10**30!s:.20}", (2**53 - 1, 2**53 - 1, "")),
        ("progress number inf", (0, None, "")),
        ("progress number many", (0, None, "")),
        ("track without a length", (1, None, "caf\ufffd.csv")),
    ],
)
def test_progress_is_stored_as_far_as_it_can_be(db, name, stored):
    result = decorate.enqueue(name)
    run_jobs()
    job = Job.objects.get(id=result.id)
    assert (job.progress_current, job.progress_total, job.progress_message) == stored


@pytest.mark.parametrize(
    ("name", "stored"),
    [("bytes", "\ufffd"), ("none", "None"), ("unspeakable", ""), ("undecodable", "caf\ufffd.csv")],
)
def test_output_is_made_printable(db, name, stored):
    result = decorate.enqueue(f"output {name}")
    run_jobs()
    assert stored_output(result) == stored


def test_progress_without_a_number_keeps_the_last_one(db, monkeypatch):
    monkeypatch.setitem(DECORATIONS, "last", lambda: (progress(3, 5, "a"), progress(None, 5, "b")))
    result = decorate.enqueue("last")
    run_jobs()
    job = Job.objects.get(id=result.id)
    assert (job.progress_current, job.progress_total, job.progress_message) == (3, 5, "b")


def test_titles_that_a_job_makes_are_cut(db, user):
    """Of jobs and batches that it enqueues, and of notifications, with the names and labels in them."""
    for name in DECORATIONS:
        if name.startswith(("title", "notify")):
            decorate.enqueue(name)
    run_jobs()
    cut = "x" * 199 + "…"
    titles = Job.objects.exclude(task_path__endswith=".decorate").values_list("title", flat=True)
    assert sorted(titles) == sorted([*["caf\ufffd.csv"] * 2, *[cut] * 2, *["Noop"] * 2])
    notes = {note.title: note for note in Notification.objects.filter(job=None)}
    assert set(notes) == {cut, "caf\ufffd.csv"}
    assert notes[cut].body == "x" * 1_999 + "…"
    assert notes[cut].data.count("x" * 99 + "…") == 2 and '"' + "x" * 39 + "…" in notes[cut].data
    assert notes["caf\ufffd.csv"].body == "caf\ufffd.csv"


@pytest.mark.parametrize(("title", "stored"), [(LONG, "x" * 199 + "…"), ("undecodable", "caf\ufffd.csv")])
def test_the_title_of_a_question_is_cut(db, user, title, stored):
    result = ask.using(owner=user).enqueue(title)
    run_jobs()
    assert Job.objects.get(id=result.id).state == "waiting"
    assert Wait.objects.get(job=result.id).title == Notification.objects.get().title == stored


def test_outside_of_a_job_titles_are_refused(user):
    """Nothing is lost there, and who wrote it reads what is wrong. Progress does nothing there."""
    for title in (LONG, UNDECODABLE):
        with pytest.raises(ValueError, match="title "):
            noop.using(title=title).enqueue()
        with pytest.raises(ValueError, match="title "):
            notify(user, title)
    progress(-1, "many", LONG)
    assert list(track([1, 2], message=LONG)) == [1, 2]
