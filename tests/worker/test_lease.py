"""The lease of a worker, and which workers may be declared lost."""

import os
import subprocess
import sys
import threading
import time
import types
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from notifications.models import Worker
from notifications.worker import lease as leases
from notifications.worker.lease import Lease, find_dead_neighbors, process_identity
from tests.support.statements import refused
from tests.support.waiting import wait_until

SLEEP = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]


@pytest.fixture
def lease(transactional_db, settings):
    """A lease of 0.4 s that is not started."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "LEASE": 0.4}
    lease = Lease(queues=["a", "b"], concurrency=7, load=lambda: 3)
    yield lease
    lease._thread.stop(30)
    Worker.objects.all().delete()


@pytest.fixture
def process():
    """Another process of this host."""
    process = subprocess.Popen(SLEEP, stdout=subprocess.PIPE)
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def identity_of(pid):
    boot, namespace, _, _ = process_identity().split()
    started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{boot} {namespace} {pid} {started}"


def read_end(lease):
    return Worker.objects.get(id=lease.worker).lease_until


def test_a_lease_is_a_row_that_is_renewed(lease):
    others = set(threading.enumerate())
    lease.start()
    row = Worker.objects.get()
    assert (row.id, row.queues, row.concurrency) == (lease.worker, "a,b", 7)
    assert row.process == process_identity()
    first = row.lease_until
    wait_until(lambda: read_end(lease) > first, what="the lease to be renewed")
    wait_until(lambda: Worker.objects.get().load == 3, what="the load")
    assert 10_000_000 < Worker.objects.get().memory < 10_000_000_000
    lease.end()
    assert not Worker.objects.exists()
    assert "notifications-lease" not in [thread.name for thread in set(threading.enumerate()) - others]


def test_it_is_renewed_while_another_thread_imports_the_http_client(lease, monkeypatch, caplog):
    """Its modules are there then, without their functions."""
    for name in ("notifications.outbound", "notifications.outbound.overview"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    lease.start()
    wait_until(lambda: Worker.objects.get().load == 3, what="a renewal")
    assert Worker.objects.get().outbound == ""
    assert "Could not renew" not in caplog.text


def test_it_is_renewed_before_it_is_over(lease, settings):
    """Until it was renewed twice it is valid whenever it is read."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "LEASE": 10}  # a busy machine may be late
    lease.start()
    ends = set()
    while len(ends) < 3:
        now = timezone.now()
        ends.add(end := read_end(lease))
        assert end > now
        time.sleep(0.005)  # A loop without it takes a whole core.


def test_starting_again_after_a_lost_answer(lease, monkeypatch):
    """The existing row is updated."""
    lease._insert_row()
    lease.start()
    assert Worker.objects.count() == 1


def test_a_deleted_row_is_inserted_again(lease):
    """Another worker declared this one lost."""
    lease.start()
    Worker.objects.all().delete()
    wait_until(lambda: Worker.objects.filter(id=lease.worker).exists(), what="the row to be inserted again")


class TestMayReap:
    def test_only_after_one_whole_lease(self, lease):
        lease.start()
        assert not lease.may_reap()
        wait_until(lease.may_reap, what="one whole lease")

    def test_not_for_one_lease_after_an_outage(self, lease):
        """Other workers need time to renew their leases."""
        lease.start()
        wait_until(lease.may_reap, what="one whole lease")
        with refused('UPDATE "?notifications_worker'):
            wait_until(lambda: lease._until is None, what="a renewal to fail")
            assert not lease.may_reap()
        wait_until(lambda: lease._until, what="a renewal to succeed")
        assert not lease.may_reap()
        wait_until(lease.may_reap, what="one whole lease")

    def test_not_while_its_own_lease_is_over(self, lease):
        """The process was suspended, as on a laptop that slept, and perhaps all other workers with it."""
        lease.start()
        wait_until(lease.may_reap, what="one whole lease")
        lease._thread.stop(30)
        wait_until(lambda: not lease.may_reap(), what="its lease to be over")

    def test_not_for_one_lease_after_the_clock_was_set_back(self, lease, jobs_clock):
        """The leases of the others are those of a fast clock until they renew them."""
        jobs_clock.advance(timedelta(hours=1))
        lease.start()
        wait_until(lease.may_reap, what="one whole lease")
        renewed = lease._unbroken_since
        jobs_clock.reset()
        assert not lease.may_reap()
        wait_until(lambda: lease._unbroken_since > renewed, what="the next renewal")
        assert not lease.may_reap() and read_end(lease) < timezone.now() + timedelta(minutes=1)
        wait_until(lease.may_reap, what="one whole lease")

    def test_a_late_renewal_begins_a_new_lease(self, lease):
        lease.start()
        wait_until(lease.may_reap, what="one whole lease")
        now = timezone.now()
        before = lease._unbroken_since
        Worker.objects.update(lease_until=now - timedelta(seconds=1))
        wait_until(lambda: read_end(lease) > now, what="the worker to notice")
        wait_until(lambda: lease._unbroken_since > before, what="a new lease to begin")

    def test_renewal_goes_on_after_any_exception(self, lease):
        lease.start()
        with refused('UPDATE "?notifications_worker', error=RuntimeError) as calls:
            wait_until(lambda: calls, what="a renewal to fail")
        wait_until(lambda: lease._until and read_end(lease) > timezone.now(), what="a renewal to succeed")


@pytest.mark.django_db
class TestDeadNeighbors:
    @pytest.fixture
    def worker_of(self):
        import socket

        def make(identity, host=None):
            now = timezone.now()
            return Worker.objects.create(
                host=host or socket.gethostname(),
                process=identity,
                started_at=now,
                lease_until=now + timedelta(seconds=20),
                concurrency=1,
            ).id

        return make

    def test_a_live_process(self, worker_of, process):
        worker_of(identity_of(process.pid))
        worker_of(process_identity())
        assert find_dead_neighbors() == []

    def test_a_killed_process(self, worker_of, process):
        """It counts as ended as a zombie, and when its parent has waited for it."""
        dead = worker_of(identity_of(process.pid))
        process.kill()
        wait_until(lambda: find_dead_neighbors() == [dead], what="the zombie to count as dead")
        process.wait()
        assert find_dead_neighbors() == [dead]

    def test_a_pid_that_is_used_again(self, worker_of, process):
        boot, namespace, pid, started = identity_of(process.pid).split()
        dead = worker_of(f"{boot} {namespace} {pid} {int(started) - 1}")
        assert find_dead_neighbors() == [dead]

    @pytest.mark.parametrize(
        "identity",
        ["", "{boot} pid:[1] {pid} {started}", "another-boot {namespace} {pid} {started}"],
        ids=["unknown", "another container", "before a reboot"],
    )
    def test_an_identity_that_proves_nothing(self, worker_of, process, identity):
        """Whether the worker is lost then depends on its lease only."""
        boot, namespace, pid, started = identity_of(process.pid).split()
        worker_of(identity.format(boot=boot, namespace=namespace, pid=pid, started=started))
        process.kill()
        process.wait()
        assert find_dead_neighbors() == []

    def test_another_host(self, worker_of, process):
        worker_of(identity_of(process.pid), host="elsewhere")
        process.kill()
        process.wait()
        assert find_dead_neighbors() == []

    @pytest.mark.parametrize("error", [FileNotFoundError, PermissionError, OSError])
    def test_a_process_that_cannot_be_read(self, worker_of, process, monkeypatch, error):
        """It is hidden by hidepid, or no file descriptor is free: no proof that it has ended."""
        worker_of(identity_of(process.pid))
        read = leases._read_stat

        def hidden(pid):
            if pid != os.getpid():
                raise error
            return read(pid)

        monkeypatch.setattr(leases, "_read_stat", hidden)
        assert find_dead_neighbors() == []

    def test_a_process_of_another_user(self, worker_of, process, monkeypatch):
        """A signal to it is refused, so it exists."""
        worker_of(identity_of(process.pid))

        def refuse(pid, number):
            raise PermissionError

        with monkeypatch.context() as patched:
            patched.setattr(os, "kill", refuse)
            assert find_dead_neighbors() == []
