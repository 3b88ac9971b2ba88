"""What a worker stores of the buffers of its jobs, and what a buffer keeps."""

import pytest
from django.db import OperationalError
from django.utils import timezone

from notifications.contrib.output import storage
from notifications.contrib.output.models import OutputChunk
from notifications.contrib.output.storage import OutputBuffer, buffer_of, store_output
from notifications.contrib.output.testing import output as stored_output
from notifications.models import Job
from tests.contrib.output import output_tasks
from tests.contrib.output.test_output import assert_contiguous, set_max_output  # noqa: F401 (a fixture)

pytestmark = pytest.mark.database_law


@pytest.fixture
def running(db):
    """running() returns the claimed row of a running job."""

    def make(fence=1):
        result = output_tasks.write.enqueue()
        Job.objects.filter(id=result.id).update(state="running", fence=fence, attempt=1)
        return Job.objects.get(id=result.id)

    return make


def test_groups_of_several_jobs(running):
    """In one transaction; of one that another worker has claimed nothing is stored, nor is anything kept."""
    jobs = [running() for _ in range(3)]
    for job in jobs:
        buffer_of(job).append("text")
    Job.objects.filter(id=jobs[1].id).update(fence=2)
    assert store_output(jobs) == []
    assert [stored_output(job) for job in jobs] == ["text", "", "text"]
    buffer_of(jobs[1]).append("more")
    assert len(storage.find_buffer(jobs[1])) == 0


@pytest.mark.parametrize("fence", [1, 2])
@pytest.mark.parametrize("committed", [True, False])
def test_the_answer_to_a_commit_is_lost(running, monkeypatch, committed, fence):
    """Nothing is stored twice, and nothing is lost."""
    job = running(fence)
    if fence > 1:
        OutputChunk.objects.create(
            job=job.id, start=0, text="old", attempt=1, fence=1, created_at=timezone.now()
        )
    retrying_atomic = storage.retrying_atomic

    def lose_answer(write):
        if committed:
            retrying_atomic(write)
        raise OperationalError("server closed the connection unexpectedly")

    mark = "old\n\x1econtinued\n" if fence > 1 else ""
    for text, expected in (("one ", "one "), ("two ", "one two more ")):
        buffer_of(job).append(text)
        with monkeypatch.context() as patched:
            patched.setattr(storage, "retrying_atomic", lose_answer)
            with pytest.raises(OperationalError):
                store_output([job])
        if text == "two ":
            buffer_of(job).append("more ")
        assert store_output([job]) == []
        assert stored_output(job) == mark + expected
    assert_contiguous(job)


def test_a_buffer_is_bounded(set_max_output):  # noqa: F811
    set_max_output(10)
    buffer = OutputBuffer()
    for _ in range(5):
        buffer.append("x" * 1_000)
    assert len(buffer) == 10 + len(storage.CUT)
