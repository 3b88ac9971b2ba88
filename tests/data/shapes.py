"""What must be true of the rows, whatever happened before."""

from notifications.models import Job, Notification, Stream


def assert_orderly(users):
    """Nothing waits; head is the greatest number; each number once; unread is what can be counted."""
    for user in users:
        notices = Notification.objects.filter(user=user)
        finished = Job.objects.filter(user=user).exclude(seq=0)
        seqs = [*notices.values_list("seq", flat=True), *finished.values_list("seq", flat=True)]
        assert None not in seqs, f"Rows of {user} wait for a number."
        assert len(set(seqs)) == len(seqs), f"A number of {user} stands on two rows."
        stream = Stream.objects.filter(pk=user).first() or Stream(pk=user)
        assert stream.head == max(seqs, default=0), f"The head of {user} is not the last number."
        raised = list(notices.values_list("raised", flat=True))
        assert len(set(raised)) == len(raised), f"Two notifications of {user} were raised at once."
        assert all(0 < row.raised <= row.seq for row in notices)
        open_rows = notices.filter(read_at=None, archived_at=None)
        assert stream.unread == open_rows.count(), f"unread of {user} has drifted."
        assert set(notices.filter(counted=True)) == set(open_rows)


def seqs(user):
    """The numbers of a user's notifications, in the order they were inserted."""
    return list(Notification.objects.filter(user=user).order_by("id").values_list("seq", flat=True))


def titles(user, **which):
    """The titles of a user's notifications by number."""
    return list(
        Notification.objects.filter(user=user, **which).order_by("seq").values_list("title", flat=True)
    )


def position(user):
    """Head and unread of a user."""
    stream = Stream.objects.filter(pk=user).first()
    return (stream.head, stream.unread) if stream else (0, 0)
