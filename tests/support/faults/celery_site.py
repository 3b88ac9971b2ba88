"""A site whose jobs run on Celery, with a broker of its own behind a proxy. Each fault is a method of CelerySite."""

import contextlib
import json
import os
import signal
import time

from tests.support.driver import Driver
from tests.support.faults.engine import TIMEOUT_SECONDS, Engine, canonical
from tests.support.network import Proxy
from tests.support.processes import child_pids
from tests.support.redis_server import Redis
from tests.support.site import START_TIMEOUT_SECONDS

#: The workers of a site: one with two processes, one with four threads.
POOLS = (("--pool", "prefork", "--concurrency", "2"), ("--pool", "threads", "--concurrency", "4"))
#: Seconds within which a job ends after processes were killed: its lease may have to end.
END_SECONDS = 600
#: The rows that assert_invariants() expects no notification of: the jobs of batches.
IN_BATCHES = "SELECT id FROM notifications_job WHERE batch IS NOT NULL"


class CelerySite(Engine):
    """The processes of one site.

    `celery` are settings of Celery, without the prefix CELERY_. `lost` is the share of messages that are lost.
    `broker` is a server, by default a new Redis, which close() stops.
    """

    def __init__(self, site, name, *, celery=None, lost=0.0, broker=None, pools=POOLS, **options):
        super().__init__(site, name, **options)
        self.pools, self.broker = pools, broker or Redis()
        self.proxy = Proxy(self.broker.port)
        site.use_celery(self.broker.url.replace(f"127.0.0.1:{self.broker.port}", self.proxy.address))
        site.environment |= {
            "DJANGO_SETTINGS_MODULE": "tests.support.faults.celery_settings",
            "TEST_CELERY": json.dumps(celery or {}),
            "TEST_LOST_MESSAGES": str(lost or ""),
        }
        self.workers = []
        self.ended_by_themselves = 0

    def start_pools(self):
        """Start a worker of each pool, and wait until they can run jobs."""
        for pool in self.pools:
            self.workers.append(self.start_celery(*pool))
        for worker in self.workers:
            wait_for_worker(worker)

    def start_celery(self, *arguments):
        """Start a Celery worker, without waiting for it."""
        name = f"w{len(self.site.processes)}@%h"
        command = ("-m", "celery", "-A", "asyncsite", "worker", "--loglevel", "INFO", "-n", name)
        return self.site.start("celery", *command, *arguments)

    def start_driver(self, actions="celery_actions"):
        """Start another process that enqueues jobs; the caller stops it."""
        return Driver(self.site, f"tests.support.faults.{actions}")

    @property
    def driver(self):
        if "driver" not in self.__dict__:
            self.__dict__["driver"] = self.start_driver()
        return self.__dict__["driver"]

    def wait_until_done(self, timeout=TIMEOUT_SECONDS):
        """Wait as Engine does, while what a service manager does is done."""
        deadline = time.monotonic() + timeout
        while self.active() and time.monotonic() < deadline:
            self.restart_ended_workers()
            time.sleep(0.1)
        super().wait_until_done(timeout=0)

    def restart_ended_workers(self):
        """Start those workers again that ended by themselves, as Celery does at some errors of Redis."""
        for index, worker in enumerate(self.workers):
            if not worker.running:
                self.ended_by_themselves += 1
                self.workers[index] = self.start_celery(*self.pools[index])

    def kill_while_jobs_run(self, rounds, task, count, args):
        """Enqueue jobs of a task in each round, kill a child and a whole worker, and check the ends of all jobs."""
        self.start_pools()
        for _ in range(rounds):
            self.enqueue(task, count, args=args)
            for kill in (self.kill_child, self.kill_worker):
                time.sleep(self.rng.uniform(0.2, 1))
                kill()
        self.wait_until_done(END_SECONDS)
        assert {job.state for job in self.jobs()} == {"succeeded"}
        self.assert_invariants()

    def jobs_in_batches(self):
        return {canonical(id) for (id,) in self.site.rows(IN_BATCHES)}

    def close(self):
        super().close()
        self.site.close()
        self.proxy.close()
        self.broker.stop()

    # The faults.

    def kill_worker(self):
        """Kill the main process of a worker, with which its children end, and start another."""
        self._replace(self.rng.randrange(len(self.workers)), lambda worker: worker.kill())

    def kill_child(self):
        """Kill a process in which jobs run. Celery starts another."""
        if children := child_pids(self.workers[0].pid):
            send_signal(self.rng.choice(children), signal.SIGKILL)

    def freeze_child(self, seconds=3.0):
        """Stop a process in which jobs run for some seconds."""
        children = child_pids(self.workers[0].pid)
        pid = self.rng.choice([*children, self.workers[1].pid])
        send_signal(pid, signal.SIGSTOP)
        time.sleep(seconds)
        send_signal(pid, signal.SIGCONT)

    def restart_worker(self):
        """Stop a worker with SIGTERM, and start another, as a deployment does."""
        self._replace(self.rng.randrange(len(self.workers)), assert_stops)

    def kill_web(self):
        """Kill the server, and start another."""
        self.site.web.kill()
        self.site.start_web()

    def kill_redis(self):
        """Kill Redis, and start it without its messages."""
        self.broker.kill()
        time.sleep(self.rng.random() * 2)
        self.broker.start()

    def cut_redis(self):
        """Cut all connections to Redis, and refuse new ones for some seconds."""
        self.proxy.cut()
        time.sleep(1 + self.rng.random() * 3)
        self.proxy.restore()

    def lose_messages(self):
        """Delete all messages, those that workers have not acknowledged too."""
        self.client.flushall()

    def double_messages(self):
        self.driver.call("send_again", seed=self.rng.random())

    def reorder_messages(self):
        """Shuffle the messages of each queue."""
        for key in self.client.scan_iter("celery*", _type="list"):
            with self.client.pipeline() as pipeline:
                messages, _ = pipeline.lrange(key, 0, -1).delete(key).execute()
                self.rng.shuffle(messages)
                if messages:
                    self.client.rpush(key, *messages)

    @property
    def client(self):
        """A client of Redis that does not go through the proxy."""
        from redis import Redis as Client

        return Client.from_url(self.broker.url)

    def _replace(self, index, end):
        end(self.workers[index])
        self.workers[index] = self.start_celery(*self.pools[index])


def assert_stops(worker):
    """Stop a worker with SIGTERM; fail if it has to be killed."""
    code = worker.stop(timeout=60)
    assert code != -signal.SIGKILL, f"The worker did not end after SIGTERM.\n{worker.output}"


def wait_for_worker(worker):
    """Wait until a Celery worker can run jobs."""
    worker.wait_until(
        lambda: " ready." in worker.output,
        what="the worker to be ready",
        timeout=START_TIMEOUT_SECONDS,
    )


def send_signal(pid, number):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
