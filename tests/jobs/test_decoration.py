"""What a job says about its work decides nothing: texts are cut and made printable, numbers are made to fit."""

import asyncio
import os

import pytest
from django.contrib.auth import get_user_model
from django.utils.functional import lazystr

from notifications.api import batch, notify, progress, task, track
from notifications.contrib.output import output
from notifications.contrib.output.testing import output as stored_output
from notifications.contrib.questions import question
from notifications.models import Job, Notification, Wait
from notifications.testing import run_jobs
from tests.jobs.conftest import until_done

pytestmark = [pytest.mark.database_law, pytest.mark.nightly_on_postgres]

#: A file name that is not UTF-8, as ``os.listdir()`` returns it.
UNDECODABLE = os.fsdecode(b"caf\xe9.csv")
LONG = "x" * 2_001


class Unspeakable:
    """Raises whatever is asked of it."""

    def __str__(self):
        raise RuntimeError("str")

    def __int__(self):
        raise RuntimeError("int")

    def __len__(self):
        raise RuntimeError("len")

    def __iter__(self):
        return iter("ab")


def _notify(title, **fields):
    notify(get_user_model().objects.get(), title, **fields)


def _enqueue_titled(title):
    noop.using(title=title).enqueue()
    with batch(title=title):
        noop.enqueue()


DECORATIONS = {
    **{
        f"progress message {name}": lambda value=value: progress(1, 2, value)
        for name, value in {
            "long": LONG,
            "undecodable": UNDECODABLE,
            "nul": "a\0b",
            "none": None,
            "number": 3,
            "bytes": b"\xff",
            "lazy": lazystr(LONG),
            "unspeakable": Unspeakable(),
        }.items()
    },
    **{
        f"progress number {value!s:.20}": lambda value=value: progress(value, value)
        for value in (None, -1, 2**53, 10**30, float("nan"), float("inf"), "many", [1])
    },
    "progress number unspeakable": lambda: progress(Unspeakable(), Unspeakable()),
    "track long": lambda: list(track([1, 2], message=LONG)),
    "track without a length": lambda: list(track(Unspeakable(), message=UNDECODABLE)),
    "output bytes": lambda: output(b"\xff"),
    "output none": lambda: output(None),
    "output unspeakable": lambda: output(Unspeakable()),
    "output undecodable": lambda: output(UNDECODABLE),
    "title long": lambda: _enqueue_titled(LONG),
    "title undecodable": lambda: _enqueue_titled(UNDECODABLE),
    "notify long": lambda: _notify(
        LONG,
        body=LONG,
        actor=LONG,
        target={"name": LONG, "url": "/"},
        actions=[{"label": LONG, "url": "/"}],
    ),
    "notify undecodable": lambda: _notify(UNDECODABLE, body=UNDECODABLE, actor=UNDECODABLE),
}


@task
async def noop():
    pass


@task
def decorate(name):
    DECORATIONS[name]()
    return "done"


@task
async def decorate_async(name):
    await asyncio.sleep(0)
    if not name.startswith(("title", "notify")):
        DECORATIONS[name]()
    return "done"


@task
def ask(title):
    return question(UNDECODABLE if title == "undecodable" else title, name="go", choices={"yes": "Yes"})


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
