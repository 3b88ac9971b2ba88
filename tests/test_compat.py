"""Whether a signal of Django's Tasks is sent."""

import functools
import logging
import sys
from types import SimpleNamespace

import pytest
from django.utils.log import RequireDebugFalse, RequireDebugTrue

from notifications import compat
from notifications.compat import should_send, task_finished, task_started
from notifications.testing import run_jobs
from tests.jobs import tasks

DEBUG, INFO, WARNING, ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR


class Handler(logging.Handler):
    """Collects the records that it is given."""

    def __init__(self, level=logging.NOTSET, *filters):
        super().__init__(level)
        self.filters = list(filters)
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def loggers(monkeypatch):
    """The logger of Django's Tasks, the one above it at INFO, and the root at WARNING, without handlers."""
    root = logging.RootLogger(WARNING)
    # Not those of the process, which have the handlers of pytest.
    django, tasks = logging.Logger("django"), logging.Logger(compat.signals.logger.name)  # noqa: LOG001
    django.parent, tasks.parent = root, django
    django.setLevel(INFO)
    monkeypatch.setattr(compat.signals, "logger", tasks)
    monkeypatch.setattr(logging, "lastResort", Handler(WARNING))
    return SimpleNamespace(tasks=tasks, django=django, root=root)


def reaches_a_handler(loggers, level):
    """Return whether a record reaches a handler, by logging one."""
    handlers = [*loggers.root.handlers, *loggers.django.handlers, *loggers.tasks.handlers, logging.lastResort]
    records = [handler.records for handler in handlers if handler]
    for each in records:
        each.clear()
    loggers.tasks.log(level, "a line")
    return any(records)


def add_handlers_of_a_new_project(loggers):
    loggers.django.handlers = [Handler(INFO, RequireDebugTrue()), Handler(ERROR, RequireDebugFalse())]


def reject(record):
    return False


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        (lambda loggers: None, {WARNING, ERROR}),  # by lastResort
        (lambda loggers: setattr(logging, "lastResort", None), set()),
        (add_handlers_of_a_new_project, {ERROR}),
        (lambda loggers: loggers.root.addHandler(Handler()), {INFO, WARNING, ERROR}),
        (lambda loggers: loggers.root.addHandler(Handler(ERROR)), {ERROR}),
        (lambda loggers: loggers.tasks.addHandler(Handler(WARNING)), {WARNING, ERROR}),
        (lambda loggers: loggers.django.addHandler(Handler(INFO, RequireDebugTrue())), set()),
        (
            lambda loggers: loggers.tasks.setLevel(DEBUG) or loggers.root.addHandler(Handler()),
            {DEBUG, INFO, WARNING, ERROR},
        ),
        (
            lambda loggers: loggers.root.addHandler(Handler()) or setattr(loggers.tasks, "disabled", True),
            set(),
        ),
        # The handler of a logger above is not asked, and as there is no other, lastResort takes warnings.
        (
            lambda loggers: loggers.root.addHandler(Handler()) or setattr(loggers.django, "propagate", False),
            {WARNING, ERROR},
        ),
    ],
)
def test_records_are_sent_that_reach_a_handler(loggers, settings, change, taken):
    settings.DEBUG = False
    change(loggers)
    for level in (DEBUG, INFO, WARNING, ERROR):
        assert should_send(task_finished, level) == reaches_a_handler(loggers, level) == (level in taken)


def test_records_that_debug_lets_pass_are_sent(loggers, settings):
    """The answer follows the settings and handlers of the moment."""
    add_handlers_of_a_new_project(loggers)
    for settings.DEBUG in (False, True, False):
        assert should_send(task_started) == settings.DEBUG
    loggers.root.addHandler(handler := Handler())
    assert should_send(task_started)
    loggers.root.removeHandler(handler)
    assert not should_send(task_started)


@pytest.mark.parametrize("filters", [[reject], [reject, RequireDebugTrue()], [RequireDebugFalse()]])
def test_records_are_sent_to_unknown_filters(loggers, settings, filters):
    settings.DEBUG = False
    loggers.django.addHandler(Handler(INFO, *filters))
    assert should_send(task_started)


def test_records_are_sent_to_the_filter_of_the_logger(loggers):
    loggers.tasks.addFilter(reject)
    assert should_send(task_started)
    assert not should_send(task_started, DEBUG)


class Proxy:
    """A callable that passes its attributes on, as wrappers of wrapt do."""

    def __init__(self, wrapped):
        self.wrapped = wrapped

    def __getattr__(self, name):
        return getattr(self.wrapped, name)

    def __get__(self, instance, owner):
        return Proxy(self.wrapped.__get__(instance, owner))

    def __call__(self, *args):
        return self.wrapped(*args)


def wrap(method):
    @functools.wraps(method)
    def wrapper(self, record):
        return method(self, record)

    return wrapper


@pytest.mark.parametrize("name", ["handle", "callHandlers"])
@pytest.mark.parametrize("wrap", [wrap, Proxy])
def test_records_are_sent_to_error_trackers(loggers, monkeypatch, name, wrap):
    """Some replace a method of all loggers, and see records that no handler takes."""
    assert not should_send(task_started)
    with monkeypatch.context() as context:
        context.setattr(logging.Logger, name, wrap(getattr(logging.Logger, name)))
        assert should_send(task_started)
    assert not should_send(task_started)
    setattr(loggers.tasks, name, lambda record: None)
    assert should_send(task_started)


def test_signals_are_sent_to_receivers(loggers):
    def receive(**kwargs):
        pass

    task_finished.connect(receive)
    try:
        assert should_send(task_finished, DEBUG)
        assert not should_send(task_started, DEBUG)
    finally:
        task_finished.disconnect(receive)


def test_a_job_whose_signals_nothing_takes_makes_no_result(user, loggers, settings, monkeypatch):
    """Jobs of a new project need no TaskResult, and where a handler takes what Django logs, it has the lines."""
    settings.DEBUG = False
    add_handlers_of_a_new_project(loggers)
    tasks.noop.enqueue()
    made, made_by = [], type(tasks.noop.enqueue())
    init = made_by.__init__
    monkeypatch.setattr(made_by, "__init__", lambda self, **values: made.append(self) or init(self, **values))
    run_jobs()
    assert not made
    loggers.root.addHandler(handler := Handler())
    result = tasks.noop.enqueue()
    made.clear()
    run_jobs()
    assert len(made) == 2
    lines = [record.getMessage() for record in handler.records]
    assert [result.id in line and line.split("state=")[1] for line in lines] == ["RUNNING", "SUCCESSFUL"]


@pytest.mark.skipif(sys.version_info < (3, 14), reason="Annotations are evaluated when they are read.")
def test_annotation_that_cannot_be_evaluated():
    namespace = {}
    exec("def handle(event: Missing): pass", namespace)
    assert list(compat.signature_of(namespace["handle"]).parameters) == ["event"]
