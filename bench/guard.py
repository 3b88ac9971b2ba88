"""Compare what this tree costs with what an earlier revision cost, and fail if something became dearer.

``python -m bench.guard [--base REVISION] [--tolerance 5] [--only WORD …]``

Measured by turns are:

statements
    The SQL statements of each way through the app, as numbers: enqueueing, a job, a notification, with e-mail, a
    question, its answer, the inbox page, the list of jobs, ``sync/``. One more than before fails.
jobs
    The CPU time of a job (of the worker), of an enqueued job, one by one and in bulk, and on PostgreSQL the time from
    enqueueing to the start at an idle worker. The projects have all ten optional apps, so their part is measured too.
    Both trees run their jobs at the same time, on one core each.
celery
    How long a thread of a Celery worker takes for a job that waits 50 ms, on PostgreSQL, where Celery and Redis are
    installed. What is above 50 is how long threads wait for jobs.
notify, questions
    The CPU time of a notification of one user, and of a job until it waits for the answer to its question (of the
    worker).
push, messages, reconnect
    The CPU time of a server: of a notification of all users at once, of messages to one user each that another process
    sends, 100 a second, and of a reconnect.
writers
    How long four processes that write to the same SQLite file wait beside a worker, and the CPU time of its jobs.
    Ratios of equal trees scatter by 21 % for waits, so one that is 30 % longer is found in 8 of 10 runs.
startup
    The modules that ``django.setup()``, ``manage.py check`` and the server import.
page
    The bytes of the inbox page with its files.
older
    Jobs, notify and writers on Django 5.2, where ``.venv311`` has it.

CPU time is that of the processes of the app, on SQLite and, where it is installed, on PostgreSQL, without the database
server. Statements are counted on Django 5.2 too. A figure is the median of the ratios of neighboring turns. It fails if
it is more than ``--tolerance`` percent above 1 and the turns agree: on a busy machine, where ratios of equal trees
scatter around 1, so many of them are above 1 by chance in one of 200 runs at most. The turns of two processes have
their memory layout in common: four runs with the same two trees found 1.01 to 1.09 for notify() on PostgreSQL. So what
looks dearer is measured once more, by new processes on new databases, and fails if it is dearer again. Other latencies,
rates and the time of a start scatter too much, and are only printed. Both trees run the benchmarks of this one. It
takes about 120 s on a machine with two free cores.

``--base`` is by default the last release: the newest tag before HEAD, else the commit that ``bench/guard_base.txt``
names, else the commit before HEAD. Where there is none, as in a shallow clone, nothing is compared. While a change of
many commits goes on, the file names the commit before all of them: by less than the tolerance each, they could add up.
``--only`` selects measures by the words above.

What a change is meant to cost is written into its commit, as a line ``Dearer: WORD, REASON``: figures whose name has
the word are listed, with the reason, and do not fail.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from bench.guard_jobs import (
    CELERY_THREADS,
    NOT_JUDGED,
    Turn,
    celery_turn,
    job_turn,
    notify_turn,
    pickup_turn,
    question_turn,
    writer_turn,
)
from bench.guard_sockets import Sockets
from bench.measured_queue import PYTHON, Queue
from bench.queues import Places, TestSkipped, broker_database, this_app, this_app_on_celery

TREE = Path(__file__).resolve().parent.parent
#: Turns of a measure, of which each runs both trees: the most, and the least when its seconds are over.
MAX_TURNS, MIN_TURNS = 15, 8
JOBS_SECONDS, PICKUPS_SECONDS, WRITERS_SECONDS = 8.0, 4.0, 14.0
PUSH_SECONDS, MESSAGES_SECONDS, RECONNECT_SECONDS = 6.0, 12.0, 8.0
NOTIFY_SECONDS, QUESTIONS_SECONDS, CELERY_SECONDS = 3.0, 4.0, 15.0
STARTUP_TURNS = 1
MEASURES = (
    *("statements", "jobs", "celery", "notify", "questions"),
    *("writers", "push", "messages", "reconnect", "startup", "page", "older"),
)
#: The measures whose figures scatter, by words of the names of these.
SCATTERING = {
    "of notify()": "notify",
    "of CPU a job": "jobs",
    "to enqueue": "jobs",
    "starts a job": "jobs",
    "of Celery's": "celery",
    "a question": "questions",
    "a writer waits": "writers",
    "beside 4 writers": "writers",
    "a push": "push",
    "a message": "messages",
    "a reconnect": "reconnect",
}
#: The older Django, on SQLite, where its environment is: the measures, and the name of their figures.
OLD_PYTHON = TREE / ".venv311" / "bin" / "python"
OLD_DJANGO = "SQLite with Django 5.2"
DATABASES = ("SQLite", "PostgreSQL", OLD_DJANGO)
#: Pairs of values, of the base and of this tree, by the name of the figure.
Figures = dict[str, list[tuple[float, float]]]
#: The start of the name of a figure that is an exact number: one more is dearer.
EXACT = "SQL statements of"
PAGES = ("/notifications/",)
#: After MIN_TURNS a measure ends before its seconds are over if all its medians are at most this: more turns of equal
#: trees say nothing, and those of a tree that is dearer by more than the tolerance have a median below it by chance
#: only if they scatter so much that no number of turns would agree.
SETTLED_RATIO = 1.02
#: How likely it may be that equal trees look unequal by chance.
MAX_CHANCE = 0.005


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="")
    parser.add_argument("--tolerance", type=float, default=5, help="percent")
    parser.add_argument("--only", nargs="*", choices=MEASURES, default=MEASURES)
    arguments = parser.parse_args()
    base = arguments.base or find_base()
    if not base:
        print("Nothing is compared: no earlier revision is available.")
        return
    # The order of sets and dictionaries would differ from process to process, and with it their cost.
    os.environ["PYTHONHASHSEED"] = "0"
    start = time.monotonic()
    messages = git("log", "--format=%B", f"{base}..HEAD")
    with checked_out(base) as folder:
        dearer = find_dearer(
            partial(compare, folder), set(arguments.only), 1 + arguments.tolerance / 100, messages
        )
    print(
        f"{TREE.name} against {git('describe', '--tags', '--always', base)}, {time.monotonic() - start:.0f} s"
    )
    if dearer:
        sys.exit(f"Dearer than {base} by more than {arguments.tolerance:g} %: {', '.join(dearer)}")


def find_dearer(
    compare: Callable[[set[str], set[str]], Figures], only: set[str], limit: float, messages: str
) -> list[str]:
    """Return the names of what is above ``limit``: at once if it is a number of things, else in two comparisons."""
    found = without_meant(report(compare(only, set(DATABASES)), limit), messages)
    doubtful = {name: measure for name in found if (measure := measure_of(name))}
    if not doubtful:
        return found
    print("Measured once more, by new processes:")
    # What names no database is measured on the first.
    ends = {name.rpartition(", ")[2] for name in doubtful}
    databases = {end if end in DATABASES else DATABASES[0] for end in ends}
    again = report(compare({*doubtful.values(), *(only & {"older"})}, databases), limit)
    return [name for name in found if name not in doubtful or name in again]


def measure_of(name: str) -> str:
    """Return the measure of a figure whose turns scatter, else an empty string."""
    return next((measure for words, measure in SCATTERING.items() if words in name), "")


def find_base() -> str:
    """Return the revision to compare with, or an empty string."""
    if tag := git("describe", "--tags", "--abbrev=0", "HEAD^"):
        return tag
    named = TREE / "bench" / "guard_base.txt"
    for revision in (named.read_text().strip() if named.exists() else "", "HEAD^"):
        if revision and (commit := git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")):
            return commit
    return ""


def git(*arguments: str) -> str:
    """Return the output of a command of git, empty if it fails."""
    if not shutil.which("git"):
        return ""
    done = subprocess.run(["git", "-C", str(TREE), *arguments], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


@contextlib.contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """Yield a folder with the tree of a revision, and with the benchmarks of this tree."""
    folder = Path(tempfile.mkdtemp(prefix="bench-guard-"))
    folder.chmod(0o755)
    try:
        archive = subprocess.Popen(["git", "-C", str(TREE), "archive", revision], stdout=subprocess.PIPE)
        subprocess.run(["tar", "-x", "-C", str(folder)], stdin=archive.stdout, check=True)
        if archive.wait():
            raise SystemExit(f"git archive {revision} failed.")
        for name in ("bench", "tests"):
            shutil.rmtree(folder / name, ignore_errors=True)
            shutil.copytree(TREE / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        yield folder
    finally:
        shutil.rmtree(folder)


def compare(base: Path, only: set[str], databases: set[str]) -> Figures:
    """Measure both trees on these databases, without those that are not installed."""
    figures: Figures = {}
    with contextlib.ExitStack() as stack:
        data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-guard-data-")))
        data.chmod(0o755)
        places = Places(data)
        stack.callback(places.end)
        if "SQLite" in databases:
            compare_on("SQLite", places.sqlite, base, only, figures)
        if "PostgreSQL" in databases:
            with contextlib.suppress(TestSkipped):
                compare_on("PostgreSQL", places.postgres, base, only, figures)
                if "celery" in only and find_spec("celery"):
                    compare_on_celery(places, base, figures)
        old = only & ({"statements", "jobs", "notify", "writers"} if "older" in only else {"statements"})
        if OLD_DJANGO in databases and OLD_PYTHON.exists() and old:
            compare_on(OLD_DJANGO, places.sqlite, base, old, figures, str(OLD_PYTHON))
    return figures


def compare_on(
    name: str,
    place: Callable[[], str],
    base: Path,
    only: set[str],
    figures: Figures,
    python: str = PYTHON,
) -> None:
    is_first = name == "SQLite"  # What does not depend on the database is measured once.
    with contextlib.ExitStack() as sides:
        queues = [this_app(name, place(), python) for _ in range(2)]
        for queue, folder in zip(queues, (base, TREE), strict=True):
            queue.folder = folder
            sides.callback(queue.end)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda queue: queue.call("prepare"), queues))
            if "statements" in only:  # first, while no job waits and no question is open
                before, now = pool.map(lambda queue: queue.call("count_statements").value, queues)
                for way in before:
                    figures[f"{EXACT} {way}, {name}"] = [(before[way], now[way])]
        if "notify" in only:
            alternate([notify_turn(queue) for queue in queues], NOTIFY_SECONDS, figures, run_at_once)
        if "jobs" in only:
            with contextlib.ExitStack() as workers:
                turns = [job_turn(queue, workers.enter_context(queue.working())) for queue in queues]
                alternate(turns, JOBS_SECONDS, figures, run_at_once)
                if name == "PostgreSQL":  # where statements take a round trip each
                    alternate([pickup_turn(queue) for queue in queues], PICKUPS_SECONDS, figures)
        if only & ({"push", "messages", "reconnect", "startup"} if is_first else {"messages"}):
            measure_sockets(queues, only if is_first else {"messages"}, figures)
        if "startup" in only and is_first:
            measure_startup(queues, figures)
        if "page" in only and is_first:
            for page in PAGES:
                weights = [queue.call("weigh", page).value for queue in queues]
                figures[f"bytes of {page} with its files"] = [(weights[0], weights[1])]
        has_writers = "writers" in only and name != "PostgreSQL"  # which has no lock of the whole database
        if has_writers or ("questions" in only and is_first):
            with contextlib.ExitStack() as processes:
                workers = [processes.enter_context(queue.working()) for queue in queues]
                if has_writers:
                    turns = [
                        writer_turn(queue, of_queue, processes)
                        for queue, of_queue in zip(queues, workers, strict=True)
                    ]
                    alternate(turns, WRITERS_SECONDS, figures)
                if "questions" in only and is_first:
                    turns = list(map(question_turn, queues, workers))
                    alternate(turns, QUESTIONS_SECONDS, figures, run_at_once)


def compare_on_celery(places: Places, base: Path, figures: Figures) -> None:
    with contextlib.ExitStack() as sides:
        turns = []
        for number, folder in enumerate((base, TREE), 1):
            broker = broker_database(places.redis(), number)
            queue = this_app_on_celery("PostgreSQL", places.postgres(), broker, "threads")
            queue.folder = folder
            sides.callback(queue.end)
            queue.call("prepare")
            sides.enter_context(queue.working(concurrency=CELERY_THREADS))
            turns.append(celery_turn(queue))
        alternate(turns, CELERY_SECONDS, figures, run_at_once)


def run_by_turns(first: Turn, second: Turn) -> list[dict[str, float]]:
    return [first(), second()]


def run_at_once(first: Turn, second: Turn) -> list[dict[str, float]]:
    """Run a turn of both sides at the same time: other processes then slow both down.

    By turns the ratios of equal trees scattered from 0.7 to 1.3 beside such.
    """
    with ThreadPoolExecutor() as pool:
        return [future.result() for future in [pool.submit(first), pool.submit(second)]]


def alternate(
    turns: list[Turn],
    seconds: float,
    figures: Figures,
    run: Callable[[Turn, Turn], list[dict[str, float]]] = run_by_turns,
) -> None:
    """Run turns of both sides, in alternating order; the first of each is a warm-up."""
    until = time.monotonic() + seconds
    found: dict[int, dict[str, float]] = {}
    for number in range(MAX_TURNS + 1):
        if number > MIN_TURNS and (
            time.monotonic() > until or is_settled([figures[name] for name in found[0] if is_judged(name)])
        ):
            break
        order = (0, 1) if number % 2 else (1, 0)
        found = dict(zip(order, run(turns[order[0]], turns[order[1]]), strict=True))
        for name in found[0] if number else ():
            figures.setdefault(name, []).append((found[0][name], found[1][name]))


def is_settled(figures: list[list[tuple[float, float]]]) -> bool:
    """Return whether no figure looks dearer than before."""
    return all(statistics.median(now / before for before, now in pairs) <= SETTLED_RATIO for pairs in figures)


def measure_sockets(queues: list[Queue], only: set[str], figures: Figures) -> None:
    with contextlib.ExitStack() as stack:
        sides = [Sockets(queue, stack) for queue in queues]
        if "push" in only:
            alternate([side.push for side in sides], PUSH_SECONDS, figures)
        if "messages" in only:
            alternate([side.send_steadily for side in sides], MESSAGES_SECONDS, figures, run_at_once)
        if "reconnect" in only:
            for side in sides:
                side.begin_reconnects()
            alternate([side.reconnect for side in sides], RECONNECT_SECONDS, figures)
        if "startup" in only:
            before, now = (side.count_modules() for side in sides)
            figures["modules of the server"] = [(before, now)]


def measure_startup(queues: list[Queue], figures: Figures) -> None:
    for name, command in (("django.setup()", []), ("manage.py check", ["check"])):
        with ThreadPoolExecutor() as pool:
            pairs = [
                list(pool.map(start_up, queues, [command] * len(queues))) for _ in range(STARTUP_TURNS + 1)
            ]
        (modules_before, _), (modules, _) = pairs[0]
        figures[f"modules of {name}"] = [(modules_before, modules)]
        # The first turn has compiled the modules.
        figures[f"ms of CPU of {name} {NOT_JUDGED}"] = [(before[1], now[1]) for before, now in pairs[1:]]


def start_up(queue: Queue, command: list[str]) -> tuple[float, float]:
    """Return the number of imported modules and the ms of CPU."""
    done = subprocess.run(
        [PYTHON, "-m", "bench.startup", *command],
        env=queue.environment,
        cwd=queue.folder,
        check=True,
        capture_output=True,
        text=True,
    )
    modules, milliseconds = map(float, done.stdout.split())
    return modules, milliseconds


def report(figures: Figures, limit: float) -> list[str]:
    """Print a table of the figures, and return the names of those that are above ``limit``."""
    dearer = []
    for name, pairs in figures.items():
        ratios = sorted(now / before for before, now in pairs)
        ratio = statistics.median(ratios)
        allowed = 1 if name.startswith(EXACT) else limit
        is_dearer = is_judged(name) and ratio > allowed and (len(ratios) == 1 or is_agreed(ratios))
        before, now = (statistics.median(values) for values in zip(*pairs, strict=True))
        print(
            f"{name:56} {before:8.1f} -> {now:8.1f} {ratio - 1:+7.1%}  "
            f"({len(ratios)} turns: {ratios[0]:.2f} to {ratios[-1]:.2f}){'  DEARER' * is_dearer}"
        )
        if is_dearer:
            dearer.append(name)
    return dearer


def without_meant(dearer: list[str], messages: str) -> list[str]:
    """Return the names of figures without those that a line ``Dearer:`` of these commits is about. Print the lines."""
    for word, reason in re.findall(r"^Dearer: (\w+), (.+)$", messages, re.M):
        print(f"Meant to be dearer: {word}, {reason}")
        dearer = [name for name in dearer if word not in re.findall(r"\w+", name)]
    return dearer


def is_judged(name: str) -> bool:
    return not name.endswith(NOT_JUDGED)


def is_agreed(ratios: list[float]) -> bool:
    """Whether more of these ratios are above 1 than chance explains, by a sign test."""
    number, above = len(ratios), sum(ratio > 1 for ratio in ratios)
    chance = sum(math.comb(number, count) for count in range(above, number + 1)) / 2**number
    return chance <= MAX_CHANCE


if __name__ == "__main__":
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # Each process would compile the packages again.
    main()
