"""Fork the processes of pytest-xdist from one that has collected the tests.

pytest-xdist starts a process for each worker, and each would import and collect 7,000 tests: a quarter of a short run.
Here one process collects them. For each worker pytest-xdist starts a short program, which has that process fork; the
fork gets the program's files, receives the code of the worker as a new process would, and runs it with the tests that
are collected.

The versions in requirements-dev.txt have the names that are used here of pytest, pytest-xdist and
pytest-rerunfailures.
"""

import logging
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from itertools import groupby
from pathlib import Path

import pytest

from tests.support import fork_server

ROOT = fork_server.ROOT
#: A variable of the process that collects: the file descriptors of the socket at which it forks, and of a pipe to
#: which it writes when it has collected the tests, and the number of workers.
DESCRIPTORS = "TEST_FORKS"
PROGRAM = (
    f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.support import forked_workers as f; f.main()"
)


class Collector:
    """The process that collects the tests, with the arguments of this run."""

    def __init__(self, config, workers):
        self._folder = tempfile.TemporaryDirectory(prefix="fork-workers-")
        self.path = f"{self._folder.name}/workers"
        ready, collected = os.pipe()
        with fork_server.listen(self.path) as listening, open(ready) as ready:
            descriptors = [listening.fileno(), collected]
            self._popen = subprocess.Popen(
                [sys.executable, "-m", "pytest", *map(str, config.invocation_params.args), "-n", "0"],
                env=os.environ | {DESCRIPTORS: " ".join(map(str, [*descriptors, workers]))},
                pass_fds=descriptors,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
            )
            os.close(collected)
            if config.getoption("database") == "sqlite":
                from tests.support.site import make_sqlite_template  # not in the programs of the workers

                make_sqlite_template(users=True)  # on a core that is free until all tests are collected
            if not ready.read():
                self.stop()
                raise pytest.UsageError("The tests could not be collected, for the reason above.")

    def stop(self):
        self._popen.stdin.close()
        try:
            self._popen.wait(20)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._folder.cleanup()


def deal(items, workers):
    """Return the tests in the order in which each worker begins with its part of those that are not quick.

    pytest-xdist gives each worker the next part of all tests, and takes from the end of one for another that has none.
    So quick tests are the last ones, and no worker waits for the long ones of another.
    """
    files = [list(tests) for _, tests in groupby(items, lambda item: item.path)]
    files.sort(key=lambda tests: all(test.get_closest_marker("quick") for test in tests))
    size, parts = len(items) // workers, [[] for _ in range(workers)]
    for number, tests in enumerate(files):
        part = parts[number % workers]
        (part if len(part) < size else min(parts, key=len)).extend(tests)
    return [test for part in parts for test in part]


def replace_specs(specs, collector):
    """Have pytest-xdist start main() for each worker."""
    import execnet

    program = shlex.join([sys.executable, "-c", PROGRAM, collector.path])
    specs[:] = [
        execnet.XSpec(f"execmodel=main_thread_only//popen//python={program}//id={spec.id}") for spec in specs
    ]


def main():
    """Have the collector fork a worker with the files of this process, and wait for its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The worker gets it too, and ends.
    sys.exit(fork_server.start_at(sys.argv[1], [], None, sys.stdin, sys.stdout, sys.stderr).wait())


class CollectedTests:
    """In the collector and its forks: it forks a worker where pytest would run the tests."""

    def __init__(self):
        listening, self._collected, self._workers = map(int, os.environ.pop(DESCRIPTORS).split())
        self._listening = socket.socket(fileno=listening)
        self._folder = Path(self._listening.getsockname()).parent
        self._failed_reports = []
        self._session = None

    def pytest_collectreport(self, report):
        if report.failed:
            self._failed_reports.append(report)

    @pytest.hookimpl(trylast=True)  # after `-m` has selected
    def pytest_collection_modifyitems(self, items):
        items[:] = deal(items, self._workers)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session):
        if self._session:  # in a worker
            return
        self._session = session
        self._capture = session.config.pluginmanager.getplugin("capturemanager")
        self._capture.stop_global_capturing()
        for handler in logging.root.handlers:
            if type(handler) is logging.StreamHandler:  # Django's: the stream that was captured is closed
                handler.stream = sys.__stderr__
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.write(self._collected, b"1")
        os.close(self._collected)
        end = os.dup(0)
        fork_server.handle(fork_server.serve(self._listening, os.fdopen(os.dup(0))))
        fork_server.share(self._folder, end)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        import _pytest.config

        _pytest.config._prepareconfig = self._prepare_config
        try:
            exec(eval(sys.stdin.readline()), {"__name__": "__main__"})  # as execnet has a new process do
        finally:
            os._exit(0)

    def _prepare_config(self, args, plugins):
        self._capture.start_global_capturing()
        return self._session.config

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config):
        """Do in a worker what pytest does, from the end of the collection on."""
        if not self._session:
            return None
        from _pytest.tmpdir import TempPathFactory

        session = self._session
        config._tmp_path_factory = TempPathFactory.from_config(config, _ispytest=True)
        if port := config.workerinput.get("sock_port"):
            from pytest_rerunfailures import ClientStatusDB

            config.failures_db = ClientStatusDB(port, config.workerinput["statusdb_token"])
        plugins = config.pluginmanager.get_plugins()
        (worker,) = (plugin for plugin in plugins if type(plugin).__name__ == "WorkerInteractor")
        for hook in config.hook.pytest_runtest_logreport.get_hookimpls():
            if hook.plugin is worker:
                hook.function = leave_out_short_phases(hook.function)
        try:
            worker.pytest_sessionstart(session)
            worker.pytest_collection()
            for report in self._failed_reports:
                worker.pytest_collectreport(report)
            worker.pytest_collection_finish(session)
            session.exitstatus = pytest.ExitCode.OK
            config.hook.pytest_runtestloop(session=session)
        except session.Failed:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        except (KeyboardInterrupt, pytest.exit.Exception):
            session.exitstatus = pytest.ExitCode.INTERRUPTED
            config.hook.pytest_keyboard_interrupt(excinfo=pytest.ExceptionInfo.from_current())
        except BaseException:
            session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
            config.notify_exception(pytest.ExceptionInfo.from_current(), config.option)
        finally:
            config.hook.pytest_sessionfinish(session=session, exitstatus=session.exitstatus)
            config._ensure_unconfigure()
        return session.exitstatus


def leave_out_short_phases(send_report):
    """Send no reports of setups and teardowns that passed at once: two of three, and each takes 0.5 ms of a core."""

    def send(report):
        if report.when == "call" or not report.passed or report.sections or report.duration > 0.1:
            send_report(report)

    return send
