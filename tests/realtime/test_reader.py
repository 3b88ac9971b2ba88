"""What is read for clients, and the ETag of what was read."""

import errno

import pytest
from django.utils import timezone

from notifications.realtime import reader


@pytest.mark.parametrize("exc", [OSError(errno.EMFILE, "Too many open files"), MemoryError()], ids=repr)
def test_lack_of_a_resource_is_no_damage(monkeypatch, user, exc):
    """The read is repeated for all, and no stream is left out as one with a damaged row."""

    def read(request):
        raise exc

    monkeypatch.setattr(reader, "_read", read)
    with pytest.raises(type(exc)):
        reader.read_changes(reader.ReadRequest(cursors={user.pk: 0}))


def test_etag_is_opaque_and_quoted():
    """An ETag is a quoted string of 34 characters, for any position."""
    tag = reader.etag("ada", "e" * 50, 2**53, {timezone.now(): 1})
    assert len(tag) == 34 and tag[0] == tag[-1] == '"'
