"""Output: text that jobs write while they run, stored in chunks by their worker."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import DataError, transaction
from django.test.utils import CaptureQueriesContext

from notifications.api import apause, policy, task
from notifications.contrib.output import aoutput_from, output
from notifications.contrib.output.models import OutputChunk
from notifications.contrib.output.testing import output as stored_output
from notifications.db import connection
from notifications.jobs import cancel
from notifications.models import Attempt, Job
from notifications.testing import run_jobs, run_until_idle
from tests.contrib.output import output_tasks
from tests.contrib.output.output_tasks import closed, entered, go_on
from tests.jobs.conftest import until_done, until_state
from tests.support.statements import preceded, refused
from tests.support.waiting import skip_time, wait_until

pytestmark = pytest.mark.database_law


@task
def write_repeated(text, times, end=""):
    output(text * times)
    output(end)


@task
def write_lone_surrogate():
    output("a\ud800\udfffb\0c\x1ed")


@task
async def stream_bytes():
    async def generate():
        yield b"\xff"

    await aoutput_from(generate())


class Tokens:
    """An async iterator that is no generator, as those of many clients."""

    def __init__(self, count, text, seconds=0.0):
        self.numbers, self.text, self.seconds = iter(range(count)), text, seconds

    def __aiter__(self):
        return self

    async def __anext__(self):
        await asyncio.sleep(self.seconds)
        for number in self.numbers:
            return self.text.format(number)
        raise StopAsyncIteration

    async def aclose(self):
        closed.set()


@task
async def stream(count, text="token {} ", seconds=0.0):
    return len(await aoutput_from(Tokens(count, text, seconds)))


@task
async def stream_list():
    await aoutput_from(["a"])


@task
def write_much(megabytes):
    block = "x" * 1024 * 1024
    for _ in range(megabytes):
        output(block)


@task
async def write_from_threads(count, lines):
    """Half of the threads are those of a pool of the task, which get copies of its context."""
    with ThreadPoolExecutor(count // 2) as pool:
        for number in range(0, count, 2):
            pool.submit(copy_context().run, _write_lines, number, lines)
        await asyncio.gather(
            *(asyncio.to_thread(_write_lines, number, lines) for number in range(1, count, 2))
        )


def _write_lines(number, lines):
    for line in range(lines):
        output(f"{number:02} {line:04}\n")


@task
def hold():
    output("before ")
    entered.set()
    go_on.wait(60)
    output("after")


@task
async def write_and_pause():
    output("first ")
    await apause("nap", timedelta(seconds=0.2))
    output("second")


@task
def write_in_transaction():
    with transaction.atomic():
        output("stays")
        transaction.set_rollback(True)


@task
@policy(timeout=60)
def write_until_late():
    output("in time")
    go_on.wait(60)
    output("late")
    entered.set()


@pytest.fixture(autouse=True)
def events():
    for event in (output_tasks.entered, output_tasks.go_on, output_tasks.closed):
        event.clear()
    yield
    output_tasks.go_on.set()


@pytest.fixture
def set_max_output(monkeypatch):
    """set_max_output(bytes) bounds what is stored of the output of a job."""
    return lambda size: monkeypatch.setattr("notifications.contrib.output.storage.MAX_OUTPUT_BYTES", size)


def chunks(result):
    return list(OutputChunk.objects.filter(job=result.id).order_by("start"))


def assert_contiguous(result):
    """Each chunk begins where the one before it ends, in bytes of UTF-8."""
    end = 0
    for chunk in chunks(result):
        assert chunk.start == end
        end += len(chunk.text.encode())
    return end


def test_tokens_are_stored_together(worker):
    """10,000 tokens are a few rows, and all of them are stored when the job has ended."""
    result = stream.enqueue(10_000)
    (job,) = until_done(result)
    expected = "".join(f"token {number} " for number in range(10_000))
    assert stored_output(result) == stored_output(str(result.id)) == expected
    assert job.result == str(len(expected))
    assert assert_contiguous(result) == len(expected)
    assert len(chunks(result)) < 100
    assert {(chunk.attempt, chunk.fence) for chunk in chunks(result)} == {(1, 1)}


def test_it_is_stored_while_the_job_runs(worker):
    result = hold.enqueue()
    wait_until(lambda: stored_output(result) == "before ", what="the output")
    assert Job.objects.get(id=result.id).state == "running"
    output_tasks.go_on.set()
    until_done(result)
    assert stored_output(result) == "before after"


def test_the_last_of_it_and_the_end_are_one_transaction(db):
    job = Job.objects.get(id=output_tasks.write.enqueue("a", "b").id)
    with CaptureQueriesContext(connection()) as queries:
        run_jobs()
    statements = [query["sql"] for query in queries]
    [at] = [n for n, sql in enumerate(statements) if "INTO notifications_output_outputchunk" in sql]
    end = next(n for n, sql in enumerate(statements) if n > at and "SET state" in sql.replace('"', ""))
    assert not any("SAVEPOINT" in sql for sql in statements[at:end])
    assert stored_output(job) == "ab"


def test_inline(db):
    result = output_tasks.fail_twice.enqueue()
    run_until_idle()
    assert stored_output(result) == "text 1\n\x1eattempt 2\ntext 2\n\x1eattempt 3\ntext 3"
    assert_contiguous(result)


def test_outside_of_a_job(db):
    """Nothing is stored."""
    output("nothing")
    assert asyncio.run(aoutput_from(Tokens(3, "{}"))) == "012"
    assert not OutputChunk.objects.exists()


@pytest.mark.parametrize(
    ("task", "error"),
    [
        (stream_bytes, "texts must be strings, not bytes"),
        (stream_list, "texts must be an async iterator, not list"),
    ],
)
def test_wrong_types(db, task, error):
    """What is returned would be wrong as well."""
    result = task.enqueue()
    run_jobs()
    assert error in Attempt.objects.get(job_id=result.id).traceback
    assert stored_output(result) == ""


def test_text_that_databases_and_readers_cannot_take(db):
    """It is replaced, and no job fails because of what a model says. Ends of lines may be divided between calls."""
    result = write_lone_surrogate.enqueue()
    lines = output_tasks.write.enqueue("a\r", "\nb\rc\r\n", "d\n\r", "", "e\r")
    run_jobs()
    assert stored_output(result) == "a\ufffd\ufffdb\ufffdc\ufffdd"
    assert stored_output(lines) == "a\nb\nc\nd\n\ne\n"


@pytest.mark.parametrize("text", ["é", "語", "🚀", "a🚀"])
def test_chunks_end_between_characters(worker, set_max_output, text):
    set_max_output(100_001)
    result = write_repeated.enqueue(text, 100_000)
    until_done(result)
    stored = stored_output(result)
    assert stored.endswith("\n\x1ecut\n")
    kept = stored.removesuffix("\n\x1ecut\n")
    assert (text * 100_000).startswith(kept)
    assert 100_001 - 4 < len(kept.encode()) <= 100_001
    assert_contiguous(result)
    assert max(len(chunk.text.encode()) for chunk in chunks(result)) <= 8 * 1024


def test_nothing_is_missing_without_a_line_that_says_so(db, set_max_output):
    """The limit is one of what is stored: of one long text with CR LF more is taken than the limit has characters."""
    set_max_output(1_000)
    short = write_repeated.enqueue("x" * 8 + "\r\n", 111, "END\n")
    long = write_repeated.enqueue("\r\n", 1_000_000, "END\n")
    run_jobs()
    assert stored_output(short) == ("x" * 8 + "\n") * 111 + "E\n\x1ecut\n"
    assert stored_output(long) == "\n" * 1_000 + "\n\x1ecut\n"


def test_more_than_the_limit(worker):
    """64 MiB: the first MiB is stored, the buffer never has more, and the end says that it was cut."""
    result = write_much.enqueue(64)
    (job,) = until_done(result)
    assert job.state == "succeeded"
    assert stored_output(result) == "x" * 1024 * 1024 + "\n\x1ecut\n"
    assert_contiguous(result)


def test_the_limit_is_one_of_all_attempts(db, set_max_output):
    """What an attempt writes counts, and nothing follows the line that says that it was cut."""
    set_max_output(40)
    result = output_tasks.fail_twice.enqueue("twenty characters, .")
    run_until_idle()
    assert stored_output(result) == "twenty characters, . 1\n\x1eattempt 2\ntwenty\n\x1ecut\n"
    exact = output_tasks.write.enqueue("x" * 40, "")
    run_jobs()
    assert stored_output(exact) == "x" * 40


def test_from_twenty_threads(worker):
    """No line is lost or divided, and those of a thread stay in order."""
    result = write_from_threads.enqueue(20, 500)
    until_done(result)
    lines = stored_output(result).splitlines()
    assert len(lines) == 10_000
    for number in range(20):
        assert [line for line in lines if line.startswith(f"{number:02} ")] == [
            f"{number:02} {line:04}" for line in range(500)
        ]


def test_an_execution_after_a_wait(worker):
    """It is the same attempt, and executed from the start: a line says so."""
    result = write_and_pause.enqueue()
    until_done(result)
    assert stored_output(result) == "first \n\x1econtinued\nfirst second"
    assert {chunk.attempt for chunk in chunks(result)} == {1}
    assert len({chunk.fence for chunk in chunks(result)}) == 2
    assert_contiguous(result)


def test_in_a_transaction_of_the_task(worker):
    """As with progress, its rollback changes nothing: the worker stores the output."""
    result = write_in_transaction.enqueue()
    until_done(result)
    assert stored_output(result) == "stays"


def test_cancelled(worker):
    """The iterator is closed, and what was written until then stays."""
    result = stream.enqueue(1_000, "{} ", 0.01)
    wait_until(lambda: stored_output(result), what="output")
    cancel([Job.objects.get(id=result.id).id])
    until_state(result, "cancelled")
    assert output_tasks.closed.is_set()
    assert stored_output(result).startswith("0 1 2 ")
    assert_contiguous(result)


def test_an_attempt_that_is_over_writes_nothing(worker):
    result = write_until_late.enqueue()
    wait_until(lambda: stored_output(result) == "in time", what="the output")
    worker.call(skip_time(60))
    (job,) = until_done(result)
    assert job.state == "failed"
    output_tasks.go_on.set()
    wait_until(output_tasks.entered.is_set, what="the thread to go on")
    other = stream.enqueue(100, seconds=0.01)
    wait_until(lambda: stored_output(other), what="what was written later to be stored")
    assert stored_output(result) == "in time"


def test_a_claim_that_is_void_stores_nothing(worker):
    """Another worker has claimed the job: what is stored stays, and nothing follows."""
    result = hold.enqueue()
    wait_until(lambda: stored_output(result), what="output")
    Job.objects.filter(id=result.id).update(fence=7)
    output_tasks.go_on.set()
    wait_until(lambda: not worker.worker.state.executions, what="the attempt to end")
    assert stored_output(result) == "before "


def test_it_is_stored_when_the_database_is_back(worker):
    with refused("INTO notifications_output_outputchunk", times=2) as tries:
        result = hold.enqueue()
        wait_until(lambda: stored_output(result), what="output")
    assert len(tries) == 2
    output_tasks.go_on.set()
    until_done(result)
    assert stored_output(result) == "before after"


def test_output_that_the_database_refuses(worker, monkeypatch, caplog):
    """It is dropped and logged; that of other jobs is stored, and all jobs end."""
    monkeypatch.setattr("notifications.contrib.output.storage.MAX_LAST_BYTES", 0)
    with refused("INTO notifications_output_outputchunk.*wrong", error=DataError):
        with transaction.atomic():  # they begin together
            bad, *good = (output_tasks.write.enqueue(text) for text in ("wrong", *["good"] * 5))
        until_done(bad, *good)
    assert [stored_output(job) for job in (bad, *good)] == ["", *["good"] * 5]
    assert f"Dropped the output of job {bad.id}" in caplog.text


@pytest.fixture
def many_pieces(monkeypatch, set_bounds):
    """Output is stored in chunks of four bytes, of which ten are deleted at once."""
    monkeypatch.setattr("notifications.contrib.output.storage.MAX_CHUNK_BYTES", 4)
    set_bounds(rows=10)


def test_pruned_with_their_jobs(db, many_pieces):
    """In pieces, if there are many, and the jobs after the last piece."""
    for _ in range(2):
        output_tasks.write.enqueue("x" * 100)
    run_jobs()
    assert OutputChunk.objects.count() == 50
    left = []
    chunks = "DELETE FROM .?notifications_output_outputchunk"
    with preceded(chunks, lambda: left.append((OutputChunk.objects.count(), Job.objects.count())), None):
        call_command("notifications", "prune", days=0)
    assert left == [(50, 2), (40, 2), (30, 2), (25, 1), (15, 1), (5, 1)]
    assert not OutputChunk.objects.exists() and not Job.objects.exists()


def test_purged_with_their_user(transactional_db, user, many_pieces):
    output_tasks.write.using(owner=user).enqueue("x" * 100)
    run_jobs()
    user.delete()
    assert not OutputChunk.objects.exists() and not Job.objects.exists()
