"""Hooks of other extensions: those of a question, its reminder and its answer."""

from datetime import timedelta

import pytest

from notifications import times
from notifications.contrib.questions.testing import answer_question
from notifications.extension import hooks
from notifications.models import Job, Wait
from notifications.testing import run_jobs
from tests.contrib.questions import question_tasks
from tests.extension.recorder import new_job
from tests.extension.shop import Part


def test_a_job_that_waits(user, recorder):
    """The notification of its question is like any other."""
    question_tasks.ask_sync.using(owner=user).enqueue()
    run_jobs()
    assert recorder.names() == ["on_attempts", "before_created", "on_created", "on_ends", "last"]
    assert recorder.states == ["waiting"]
    assert [job.state for job in recorder.jobs.values()] == ["waiting"]
    assert recorder.now == Wait.objects.get().created_at


def test_a_reminder_and_an_answer(user, recorder):
    """What the hooks need is imported before both transactions."""
    question_tasks.ask_sync.using(owner=user).enqueue(remind_hours=[1])
    run_jobs()
    recorder.calls.clear()
    Wait.objects.update(remind_at=times.now() - timedelta(hours=1))
    run_jobs()
    assert recorder.calls[0] == ("prepare", 0, False)
    assert recorder.names() == ["before_created", "on_created"]
    recorder.calls.clear()
    recorder.returned = {"answered": lambda rows: [new_job()]}
    answer_question("yes", by=user)
    # The notification that the reminder has replaced is not answered.
    assert recorder.calls == [("prepare", 0, False), ("answered", 1, True)]
    wait = Wait.objects.get()
    assert recorder.answered == (wait.job, wait.ended_at)
    assert Job.objects.filter(state="queued").count() == 2


@pytest.mark.with_all_apps("the excerpt is shown by the template of output")
def test_an_excerpt_of_a_job(transactional_db, user, other_user, client, shop, monkeypatch):
    """Those whom a job asks see it on the page of the question."""
    part = next(section for section in hooks.job_sections if section.name == Part.name)
    monkeypatch.setattr(part, "excerpt_template", "notifications/output_lines.html")
    monkeypatch.setattr(part, "excerpt_context", lambda job: {"lines": [("", f"Of {job.title}")]})
    job = question_tasks.ask_sync.using(owner=user, title="Order 7").enqueue(to=[other_user.pk])
    run_jobs()
    client.force_login(other_user)
    page = client.get(f"/notifications/jobs/{job.id}/questions/{Wait.objects.get().pk}/")
    assert "Of Order 7" in page.text
