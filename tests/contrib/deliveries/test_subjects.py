"""The subject of an e-mail arrives as it was written, whatever its scripts are."""

import email
import email.policy
from email.header import decode_header, make_header

import django
import pytest
from django.core import mail
from hypothesis import example, given
from hypothesis import strategies as st

from tests.contrib.deliveries.conftest import send_due

pytestmark = pytest.mark.nightly_on_postgres

LETTERS = ["abcXYZ019", "äöüßéñ", "жщЯ", "漢字かな한", "عربي", "हिन्दी", "😀👩‍👩‍👧", '()<>@,;:\\".[]_-=?!%']
ENCODED = ["=?utf-8?q?ascii?=", "=?", "?="]
WORDS = st.one_of(*(st.text(letters, min_size=1, max_size=90) for letters in LETTERS)) | st.sampled_from(
    [*ENCODED, "a" * 120, "ü" * 120, "e\u0301"]
)
SHORT_WORDS = st.sampled_from(["a", "ü", "report", "Größe", "漢字", "is", "über"])
SUBJECTS = (st.lists(WORDS, min_size=1, max_size=30) | st.lists(SHORT_WORDS, min_size=20, max_size=100)).map(
    lambda words: " ".join(words)[:200].strip()
)


@pytest.fixture
def sent(notified):
    notified("Übersicht: report ü 漢字 ready")
    send_due()
    [message] = mail.outbox
    return message


def read_subjects(message):
    """Return the subject as readers of the old and the new API decode it from what is sent by SMTP, and its lines."""
    if django.VERSION >= (6, 0):
        data = message.message(policy=email.policy.SMTP).as_bytes()
    else:
        data = message.message().as_bytes(linesep="\r\n")
    lines = data.partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert all(line.isascii() and len(line) <= 998 for line in lines)
    old = email.message_from_bytes(data)["Subject"]
    # The space that begins a line of a folded header is none of the subject.
    unfolded = old.replace("\r\n", "").replace("\n", "").lstrip(" ")
    return {
        str(email.message_from_bytes(data, policy=email.policy.default)["Subject"]),
        str(make_header(decode_header(unfolded))),
    }


def test_the_subject_of_a_notification(sent):
    assert read_subjects(sent) == {"Übersicht: report ü 漢字 ready"}


@pytest.mark.skipif(
    django.VERSION < (6, 0), reason="Django 5.2 encodes it, with a space before a long first word"
)
def test_any_subject(sent):
    @given(SUBJECTS.filter(bool))
    @example(f"{'x ' * 30}{'ü ' * 30}y z")
    @example("a" * 120)
    @example("a ü b ü c =?utf-8?q?ascii?= d")
    def check(text):
        sent.subject = text
        assert read_subjects(sent) == {text}

    check()
