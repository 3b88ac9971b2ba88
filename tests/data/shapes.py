"""Assertions and queries about the rows and streams of users."""

from notifications.models import Job, Notification, Stream


def assert_consistent(users):
    """Assert that no row lacks a seq, seqs are unique, and head and counts of each stream match the rows."""
    for user in users:
        notifications = list(Notification.objects.filter(user=user))
        finished = Job.objects.filter(user=user).exclude(seq=0)
        seqs = [*(row.seq for row in notifications), *finished.values_list("seq", flat=True)]
        assert None not in seqs, f"Rows of {user} have no seq."
        assert len(set(seqs)) == len(seqs), f"Two rows of {user} have the same seq."
        stream = Stream.objects.filter(pk=user).first() or Stream(pk=user)
        last = max(seqs, default=0)
        # A move of seen is a position without a row.
        assert stream.head >= last if stream.seen else stream.head == last, f"The head of {user} is wrong."
        assert 0 <= stream.seen <= stream.head
        raised = [row.raised for row in notifications]
        assert len(set(raised)) == len(raised), f"Two notifications of {user} have the same raised."
        assert all(0 < row.raised <= row.seq for row in notifications)
        open_rows = [row for row in notifications if row.read_at is None and row.archived_at is None]
        assert stream.unread == len(open_rows), f"unread of {user} is not the number of unread rows."
        unseen = sum(row.raised > stream.seen for row in open_rows)
        assert stream.unseen == unseen, f"unseen of {user} is not the number of unread rows above seen."
        assert [row for row in notifications if row.counted] == open_rows


def seqs(user):
    """Return the seqs of a user's notifications in the order of their ids."""
    return list(Notification.objects.filter(user=user).order_by("id").values_list("seq", flat=True))


def titles(user, **filters):
    """Return the titles of a user's notifications in the order of seq."""
    return list(
        Notification.objects.filter(user=user, **filters).order_by("seq").values_list("title", flat=True)
    )


def position(user):
    """Return the head and unread of a user's stream."""
    stream = Stream.objects.filter(pk=user).first()
    return (stream.head, stream.unread) if stream else (0, 0)
