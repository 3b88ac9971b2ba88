"""Which queues are compared, and where each keeps its jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import pytest

from bench.measured_queue import PYTHON, Queue

MANAGE = [PYTHON, "-m", "django"]
TestSkipped = pytest.skip.Exception


class Places:
    """Databases and a Redis of our own, on free ports, each started when it is needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = count()

    def sqlite(self) -> str:
        return f"sqlite:///{self.folder}/{next(self._numbers)}.sqlite3"

    def postgres(self) -> str:
        name = f"bench{next(self._numbers)}"
        self._postgres.create(name)
        return self._postgres.url(name)

    def redis(self) -> str:
        return self._redis.url

    def end(self) -> None:
        for name in ("_postgres", "_redis"):
            if name in self.__dict__:
                self.__dict__[name].stop()

    @cached_property
    def _postgres(self):
        from tests.support.postgres import Postgres

        return Postgres()

    @cached_property
    def _redis(self):
        from tests.support.redis_server import Redis

        return Redis()


def queues(places: Places, *, finished: bool = False) -> Iterator[Queue]:
    """Yield the queues that can be measured on this machine, each with its own database. Print which cannot.

    ``finished``: those that keep finished jobs in a table.
    """
    on = {"SQLite": places.sqlite, "PostgreSQL": places.postgres}
    for name, place in on.items():
        yield from available(f"this app, {name}", place, this_app)
    if not finished:
        yield from available("this app, SQLite, embedded", places.sqlite, embedded)
    for name, place in on.items():
        yield from available(f"django-tasks-db, {name}", place, tasks_db, needs="django_tasks_db")
    yield from available("Procrastinate, PostgreSQL", places.postgres, procrastinate, needs="procrastinate")
    if not finished:
        yield from available("Celery, Redis", places.redis, celery, needs="celery")


def engine_queues(places: Places) -> Iterator[Queue]:
    """Yield this app on Celery's workers, and Celery and the built-in worker alone."""
    for number, pool in enumerate(("prefork", "threads"), 1):

        def on_celery(name: str, url: str, number: int = number, pool: str = pool) -> Queue:
            return this_app_on_celery(name, url, broker_database(places.redis(), number), pool)

        yield from available(
            f"this app on Celery, {pool}, PostgreSQL", places.postgres, on_celery, needs="celery"
        )
    yield from available("this app, PostgreSQL", places.postgres, this_app_beside_engines)
    for number, name in enumerate(("Celery alone", "Celery alone, ignore_result"), 3):

        def project(name: str, url: str, number: int = number) -> Queue:
            return celery_project(name, url, broker_database(places.redis(), number))

        yield from available(name, places.sqlite, project, needs="celery")


def available(
    name: str, place: Callable[[], str], make: Callable, *, needs: str = "django"
) -> Iterator[Queue]:
    if not find_spec(needs):
        print(f"{name} is not measured: {needs} is not installed (bench/requirements.txt).")
        return
    try:
        url = place()
    except TestSkipped as exc:
        print(f"{name} is not measured: {exc}")
        return
    yield make(name, url)


def this_app(name: str, url: str, python: str = PYTHON) -> Queue:
    command = [python, "-m", "django", "run_jobs"]
    return Queue(
        name=name,
        module="bench.app_queue",
        environment=site(url, "bench.settings"),
        workers=lambda processes, concurrency: [[*command, f"--concurrency={concurrency}"]] * processes,
        python=python,
        jobs=10_000,
        measures={"rate", "owner", "writers", "enqueueing", "pickup", "waiting"},
    )


def this_app_on_celery(name: str, url: str, broker: str, pool: str) -> Queue:
    command = [PYTHON, "-m", "celery", "--app=asyncsite", "worker", "--loglevel=WARNING", f"--pool={pool}"]

    def workers(processes: int, concurrency: int) -> list[list[str]]:
        if pool == "prefork":
            return [[*command, f"--concurrency={processes}"]]
        return [
            [*command, f"--concurrency={min(concurrency, 20)}", f"--hostname=worker{number}@bench"]
            for number in range(processes)
        ]

    return Queue(
        name=name,
        module="bench.app_queue",
        environment=site(url, "bench.settings") | {"CELERY_BROKER_URL": broker},
        workers=workers,
        jobs=1500,
        pickups=40,
        measures={"rate", "enqueueing", "pickup", "browser"},
    )


def this_app_beside_engines(name: str, url: str) -> Queue:
    queue = this_app(name, url)
    queue.jobs, queue.pickups, queue.measures = 5000, 40, {"rate", "enqueueing", "pickup", "browser"}
    return queue


def celery_project(name: str, url: str, broker: str) -> Queue:
    ignores_result = name.endswith("ignore_result")
    command = [PYTHON, "-m", "celery", "--app=bench.celery_project", "worker", "--loglevel=WARNING"]
    return Queue(
        name=name,
        module="bench.celery_project",
        environment=site(url, "bench.settings")
        | {
            "REDIS_URL": broker,
            "BENCH_IGNORE_RESULT": str(int(ignores_result)),
        },
        workers=lambda processes, concurrency: [[*command, f"--concurrency={processes}"]],
        jobs=6000,
        pickups=40,
        measures={"rate", "enqueueing", "pickup"},
    )


def broker_database(redis: str, number: int) -> str:
    """Return the URL of one of the numbered databases of a Redis."""
    return f"{redis.removesuffix('0')}{number}"


def embedded(name: str, url: str) -> Queue:
    return Queue(
        name=name,
        module="bench.app_queue_embedded",
        environment=site(url, "bench.settings"),
        workers=lambda processes, concurrency: [],
        measures={"pickup"},
    )


def tasks_db(name: str, url: str) -> Queue:
    command = [*MANAGE, "db_worker", "--no-startup-delay", "--verbosity=0"]
    return Queue(
        name=name,
        module="bench.alternatives.tasks_db",
        environment=site(url, "bench.alternatives.settings"),
        workers=lambda processes, concurrency: [command] * processes,
        jobs=1500,
        pickups=20,
        measures={"rate", "writers", "enqueueing", "pickup"},
    )


def procrastinate(name: str, url: str) -> Queue:
    command = [PYTHON, "-m", "procrastinate", "--app=bench.alternatives.procrastinate_postgres.app", "worker"]
    return Queue(
        name=name,
        module="bench.alternatives.procrastinate_postgres",
        environment={"DATABASE_URL": url},
        workers=lambda processes, concurrency: [[*command, f"--concurrency={concurrency}"]] * processes,
        jobs=2000,
        measures={"rate", "enqueueing", "pickup", "waiting"},
    )


def celery(name: str, url: str) -> Queue:
    command = [
        PYTHON,
        "-m",
        "celery",
        "--app=bench.alternatives.celery_redis",
        "worker",
        "--loglevel=WARNING",
    ]
    return Queue(
        name=name,
        module="bench.alternatives.celery_redis",
        environment={"REDIS_URL": url},
        # One parent with that many children that run tasks.
        workers=lambda processes, concurrency: [[*command, f"--concurrency={processes}"]],
        jobs=4000,
        measures={"rate", "enqueueing", "pickup"},
    )


def site(url: str, settings: str) -> dict[str, str]:
    return {
        "DJANGO_SETTINGS_MODULE": settings,
        "DATABASE_URL": url,
        "SECRET_KEY": "only for a measurement",
        "DEBUG": "0",
        "EMBEDDED_WORKER": "0",
        "ALLOWED_HOSTS": "127.0.0.1",
    }
