"""What follows when the host's users change."""

from types import SimpleNamespace

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.db.models.signals import post_delete, post_save
from django.test.utils import CaptureQueriesContext, isolate_apps

from notifications import receivers, streams, times
from notifications.api import notify
from notifications.models import Attempt, Job, Notification, Stream, Wait, uuid7
from tests.data.rows import job, unnumbered
from tests.data.shapes import assert_consistent
from tests.support.claims import claim_rows
from tests.support.outcomes import failed, record

pytestmark = pytest.mark.django_db(transaction=True)


def fill(user):
    """Something of everything."""
    notify(user, "note")
    unnumbered(user.pk, 250)
    job(user)
    job(user)
    mine = [claimed for claimed in claim_rows(uuid7(), 10) if claimed.user_id == user.pk]
    record(failed(mine[0], ValueError()))


def everything_of(key):
    return [
        *Notification.objects.filter(user=key),
        *Job.objects.filter(user=key),
        *Stream.objects.filter(pk=key),
    ]


def test_a_deleted_users_rows_are_purged(user, other_user):
    """All of them, and nobody else's."""
    fill(user)
    fill(other_user)
    key = user.pk
    user.delete()
    assert everything_of(key) == []
    assert Attempt.objects.count() == 1
    assert len(everything_of(other_user.pk)) == 255
    streams.number([other_user.pk])
    assert_consistent([other_user])


def test_rows_of_others_do_not_name_a_deleted_user(user, other_user):
    """A question of another's job that the user has answered stays."""
    row = job(other_user)
    Wait.objects.create(job=row.pk, attempt=1, created_at=times.now(), ended_by=user)
    user.delete()
    assert Wait.objects.get().ended_by_id is None


def test_only_after_the_commit(user):
    """A deletion that is rolled back purges nothing, and until the commit nothing is locked."""
    fill(user)
    key = user.pk
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        user.delete()
        assert len(everything_of(key)) == 255
        raise ZeroDivisionError
    assert len(everything_of(key)) == 255


def test_several_at_once(user, other_user):
    """A queryset's delete is one too."""
    fill(user)
    get_user_model().objects.all().delete()
    assert not Notification.objects.exists()
    assert not Stream.objects.exists()


def test_many_users_are_purged_together(make_user):
    """200 users, each with a notification, cost few queries more than one."""
    users = [make_user(f"user{number}") for number in range(201)]
    notify(users, "Hello")
    one, *others = (user.pk for user in users)
    queries = []
    for keys in ([one], others):
        with CaptureQueriesContext(connection) as captured:
            get_user_model().objects.filter(pk__in=keys).delete()
        queries.append([query["sql"] for query in captured if "notifications_" in query["sql"]])
    assert len(queries[1]) < 3 * len(queries[0]), "\n".join(queries[1])
    assert not Notification.objects.exists() and not Stream.objects.exists()


def test_deletion_of_one_that_is_rolled_back(user, other_user):
    """Of two deletions in a transaction, that whose savepoint is rolled back purges nothing."""
    for each in (user, other_user):
        notify(each, "Hello")
    with transaction.atomic():
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            user.delete()
            raise ZeroDivisionError
        other_user.delete()
    assert Notification.objects.get().user_id == get_user_model().objects.get().pk


@isolate_apps("tests")
def test_a_proxy_of_the_user_model(user, monkeypatch):
    """It sends signals of its own, with the same rows."""

    class Person(get_user_model()):
        class Meta:
            app_label = "tests"
            proxy = True

    fill(user)
    # Not the registry itself, whose models Django reads when the first user is deleted.
    monkeypatch.setattr(receivers, "apps", SimpleNamespace(get_models=lambda: [Person]))
    receivers.connect()
    try:
        Person.objects.get().delete()
    finally:
        for signal in (post_save, post_delete):
            for uid in ("notifications.changed", "notifications.purge"):
                signal.disconnect(sender=Person, dispatch_uid=uid)
    assert not Notification.objects.exists()


def test_a_changed_password_raises_the_guard(user):
    """So does deactivation; signing in and renaming do not."""
    user.last_login = None
    user.save(update_fields=["last_login"])
    assert not Stream.objects.exists()
    user.set_password("new")
    user.save()
    assert Stream.objects.get().guard == 1
    user.is_active = False
    user.save(update_fields=["is_active"])
    assert Stream.objects.get().guard == 2


def test_signing_out_raises_the_guard(user, client):
    """The processes that serve this user's sockets look at the sessions again."""
    client.force_login(user)
    client.logout()
    assert Stream.objects.get().guard == 1


@pytest.mark.parametrize("change", [{"password": "other"}, {"is_active": False}])
def test_what_ends_sessions_raises_the_guard_once(user, change):
    """Saved whole or by field; a save that changes nothing of it does not."""
    for name, value in change.items():
        setattr(user, name, value)
    user.save()
    user.last_name = "Lovelace"
    user.save()
    user.save(update_fields=list(change))
    assert Stream.objects.get(user=user).guard == 1


def test_a_user_who_is_saved_with_each_request_costs_nothing(user):
    """No stream is touched, and nobody's session is read again."""
    user.last_name = "Lovelace"
    user.save()
    get_user_model().objects.defer("password").get(pk=user.pk).save()
    assert not Stream.objects.exists()
