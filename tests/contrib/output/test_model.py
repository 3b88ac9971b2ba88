"""Output: executions write, are stored, lose the answers of commits and their claims; what was stored stays, in order.

MODEL_EXAMPLES=500 python -m pytest tests/contrib/output/test_model.py    a long run
"""

import os
import re
from itertools import count

import pytest
from django.db import DatabaseError, OperationalError, transaction
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notifications.contrib.output.models import OutputChunk
from notifications.contrib.output.storage import buffer_of, store_output
from notifications.contrib.output.testing import output as stored_output
from notifications.models import Job
from tests.contrib.output import output_tasks
from tests.contrib.output.test_output import assert_contiguous, set_max_output  # noqa: F401 (a fixture)
from tests.http.conftest import job_url
from tests.support.outcomes import record, succeeded
from tests.support.statements import preceded, refused

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "25"))
NUMBERS = count()
#: Bytes within a character.
CONTINUATIONS = {bytes([byte]) for byte in range(0x80, 0xC0)}
CUT = "\n\x1ecut\n"
INSERT = "INSERT INTO notifications_output_outputchunk"
#: Some of more than one chunk, and characters of one to four bytes.
TEXTS = st.one_of(
    st.text(alphabet="ab\r\n\x1e\0é€😀\ud800", max_size=6),
    st.sampled_from(["half of CR LF\r", "\n"]),
    st.tuples(st.sampled_from(["x", "é", "😀\n", "\r\n"]), st.sampled_from([3_000, 9_000])).map(
        lambda parts: parts[0] * parts[1]
    ),
)


def lose_answer():
    """Have the transaction that is open be committed, and its process not know."""

    def lose():
        raise OperationalError("server closed the connection unexpectedly")

    transaction.on_commit(lose)


FATES = {
    "stored": lambda: preceded("(?!)", None),
    "refused": lambda: refused(INSERT, times=1),
    "answer lost": lambda: preceded(INSERT, lose_answer),
}


class Output:
    """A job, the text of its executions, and what must be stored of it."""

    def __init__(self, owner, limit):
        result = output_tasks.write.using(owner=owner).enqueue()
        self.id, self.limit = result.id, limit
        self.before = self.past = self.written = ""
        self.zombie, self.past_attempt = None, 0
        self.row = self.claim(1, 1)
        self.is_done = False

    def claim(self, attempt, fence):
        Job.objects.filter(id=self.id).update(state="running", attempt=attempt, fence=fence)
        return Job.objects.get(id=self.id)

    def write(self, text):
        buffer_of(self.row).append(text)
        self.written += text
        if self.zombie:
            buffer_of(self.zombie).append(f"zombie {text}")

    def lose_claim(self, attempts):
        """Another worker executes it, as a new attempt, or the one that was released."""
        last = OutputChunk.objects.filter(job=self.id).order_by("start").last()
        self.past, self.past_attempt = self.before, last.attempt if last else 0
        self.written, self.zombie = "", self.row
        self.row = self.claim(self.row.attempt + attempts, self.row.fence + 1)

    def expect(self, *, is_over=False):
        """Return all that may be stored now."""
        ends = r"\r\n?|\n" if is_over else r"\r\n|\r(?!\Z)|\n"  # the last CR may be the first half of CR LF
        written = re.sub(ends, "\n", self.written)
        written = re.sub("[\x1e\0\ud800]", "\ufffd", written if is_over else written.removesuffix("\r"))
        if not written or self.past.endswith(CUT):
            return self.past
        kind = f"attempt {self.row.attempt}" if self.row.attempt > self.past_attempt else "continued"
        return self.past + (f"\n\x1e{kind}\n" if self.past else "") + written

    def compare(self, *, has_stored=False, is_over=False):
        stored, expected = stored_output(self.id), self.expect(is_over=is_over)
        assert stored.startswith(self.before), "What was stored has changed."
        if stored.endswith(CUT) and len(expected.encode()) > self.limit:
            kept = stored.removesuffix(CUT)
            assert expected.startswith(kept)
            assert self.limit - 4 < len(kept.encode()) <= self.limit or kept == self.past
        else:
            assert expected.startswith(stored), "Something else is stored than was written."
            assert stored == expected or not has_stored, "Something is not stored."
        assert_contiguous(self)
        self.before = stored

    def read(self, client, at):
        """From each offset, in parts, it is the text from there."""
        data, url = stored_output(self.id).encode(), job_url(self.row, "output/")
        at %= len(data) + 2
        response = client.get(url, {"offset": at})
        if at > len(data) or data[at : at + 1] in CONTINUATIONS:
            assert response.status_code == 400
            return
        text = response.content
        while "Stream-Up-To-Date" not in response:
            assert "Stream-Closed" not in response
            response = client.get(url, {"offset": response["Stream-Next-Offset"]})
            text += response.content
        assert text == data[at:]
        assert ("Stream-Closed" in response) is self.is_done


def try_(fate, work):
    with FATES[fate]():
        try:
            return work()
        except DatabaseError:
            return None


def store(outputs, fate):
    """Store what all have written, and what those have that lost their claims: nothing."""
    rows = [row for output in outputs for row in (output.row, output.zombie) if row]
    left = try_(fate, lambda: store_output(rows))
    while left and fate == "stored":
        left = store_output(rows)
    for output in outputs:
        output.compare(has_stored=fate == "stored")


def end(output, fate):
    """The job succeeds: the end of its output is stored with its outcome, however often that is tried."""
    while try_(fate, lambda: record(succeeded(output.row))) is None:
        fate = "stored"
    output.is_done = Job.objects.get(id=output.id).state == "succeeded"
    assert output.is_done
    output.compare(has_stored=True, is_over=True)


ACTS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(0, 1), TEXTS), max_size=3),
        st.sampled_from(["store", "store", "lose claim", "read"]),
        st.integers(0, 1),
        st.sampled_from(["stored", *FATES]),
        st.integers(0, 100_000),
    ),
    min_size=8,
    max_size=14,
)


@pytest.mark.database_law
@pytest.mark.django_db(transaction=True)
@pytest.mark.timeout(200 + 4 * EXAMPLES)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=ACTS, limit=st.sampled_from([10, 20_000, 1024 * 1024]), last_fate=st.sampled_from([*FATES]))
def test_output_is_stored_and_read_as_it_was_written(
    make_user,
    set_max_output,  # noqa: F811
    set_bounds,
    acts,
    limit,
    last_fate,
):
    set_max_output(limit)
    set_bounds(rows=2)
    client, owner = Client(), make_user(f"user {next(NUMBERS)}")
    client.force_login(owner)
    outputs = [Output(owner, limit) for _ in range(2)]
    for texts, act, which, fate, number in acts:
        for writing, text in texts:
            outputs[writing].write(text)
        if act == "store":
            store(outputs, fate)
        elif act == "read":
            outputs[which].read(client, number)
        else:
            outputs[which].lose_claim(number % 2)
    for output in outputs:
        end(output, last_fate)
        output.read(client, 0)
