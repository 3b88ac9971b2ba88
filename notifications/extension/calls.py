"""Calls of hooks: what an error of one does.

A hook that is owed raises what it raised, marked with its extension and name, so that the transaction is repeated
without that extension, and stores what it owes: ``jobs/owed_calls.py``. The error of one that is refused is that of its
caller. A hook of reading is left out of the page, and logged once a minute.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from inspect import isfunction
from types import CoroutineType
from typing import Any, NamedTuple

from django.db import Error, IntegrityError, connections
from django.db.transaction import TransactionManagementError

from notifications.extension.channels import Channel, Verdict, read_addresses
from notifications.extension.findings import Check
from notifications.extension.log_throttle import is_log_due
from notifications.extension.pages import read_steps, read_zones

logger = logging.getLogger("notifications")

_MARK = "_notifications_hook"


class HookName(NamedTuple):
    """The label of an extension and the name of its hook: ``sms.on_ends``."""

    extension: str
    hook: str

    def __str__(self) -> str:
        return f"{self.extension}.{self.hook}"


#: A hook that is not known: the database refuses at the commit what it has returned, or it has caught an error of it.
UNKNOWN_HOOK = HookName("an extension", "hook")


class _Owing(threading.local):
    """``take`` gets each call of a hook that is owed, in a transaction that may leave hooks out.

    It returns whether the call is left out. None outside of such a transaction, where the caller gets the errors.

    With ``is_one_by_one`` the transaction sends statements one by one, so that each error is raised by the one that it
    is about.
    """

    take: Callable[[HookName, tuple[Any, ...]], bool] | None = None
    is_one_by_one = False


owing = _Owing()


def _as_it_is(value: Any) -> Any:
    return value


def _none(*result: Any) -> None:
    """Take what a hook has returned that returns nothing, or stand for that."""


def _read_verdict(value: Any) -> Any:
    if not isinstance(value, Verdict):
        raise TypeError(f"{value!r} is no Verdict.")
    return value


#: Of each hook that is owed: what reads its result. None is nothing, for all of them.
OWED: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("before_created", "last"), _none),
    **dict.fromkeys(("on_created", "on_attempts", "on_ends", "on_change"), list),
    # Methods of WaitKind.
    **dict.fromkeys(("opened", "notification_ids"), list),
    "ended": set,
}
#: The same of each hook that is refused.
REFUSED: Mapping[str, Callable[[Any], Any]] = {
    "before_raised": list,
    **dict.fromkeys(("accept", "worker_part"), _as_it_is),
    # Called when the apps are ready.
    "dispatch": _as_it_is,
}
#: What None stands for, where the core needs a value of them.
_EMPTY: Mapping[str, Callable[[], Any]] = {
    **dict.fromkeys(("on_created", "on_attempts", "on_ends", "on_change", "before_raised"), list),
    **dict.fromkeys(("opened", "notification_ids"), list),
    "allow_starts": dict,
    "ended": set,
}
#: Of each hook that is left out after an error: what is in its place, and what reads its result.
LEFT_OUT: Mapping[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    **dict.fromkeys(("duties", "checks", "events_of", "page_links"), (list, list)),
    "prepare": (_none, _none),
    "keep_for_later": (str, str),
    **dict.fromkeys(("overview_sections", "metrics"), (list, list)),
    **dict.fromkeys(("parts_of", "page_data", "describe_broadcasts"), (dict, dict)),
    **dict.fromkeys(("after_commit", "end"), (_none, _none)),
    # None: it has failed, and the jobs with these keys wait a moment.
    "allow_starts": (_none, dict),
    "time_zones_of": (dict, read_zones),
    "may_follow": (bool, bool),
    "steps_of": (lambda: ((), 0), read_steps),
    # Methods of WaitKind, JobSection and Check.
    "is_shown_to": (lambda: True, bool),
    "describe_ends": (dict, dict),
    **dict.fromkeys(("page", "describe"), (str, str)),
    **dict.fromkeys(("answer_path", "remind", "message_fact", "item"), (_none, _as_it_is)),
    **dict.fromkeys(("page_context", "excerpt_context", "admin_context"), (dict, dict)),
    **dict.fromkeys(("lines", "find", "topics", "find_wrong", "user_fields"), (list, list)),
    # Methods of Channel.
    "describe_addresses": (dict, dict),
    "find_addresses": (dict, lambda found: {user: read_addresses(each) for user, each in found.items()}),
    "addresses": (_none, read_addresses),
    "judge": (_none, _read_verdict),
}


def hook_of(exc: BaseException | None) -> HookName | None:
    """Return the hook that an error is of, None if it is of none."""
    return getattr(exc, _MARK, None)


def mark(exc: BaseException, name: HookName) -> None:
    """Mark an error as that of a hook, unless it is marked already."""
    if hook_of(exc) is None:
        setattr(exc, _MARK, name)
        exc.add_note(f"Raised by the hook {name.hook} of the extension {name.extension}.")


def blame(exc: BaseException, *, is_at_commit: bool) -> HookName | None:
    """Return the hook that an error of a transaction is of, ``UNKNOWN_HOOK`` if the core cannot have caused it.

    Its own tables have no constraint that is checked at the commit, and it goes on after no error of the database.
    """
    is_of_rows = is_at_commit and isinstance(exc, IntegrityError)
    is_aborted = getattr(exc.__cause__, "sqlstate", None) == "25P02"
    is_unknown = is_of_rows or is_aborted or isinstance(exc, TransactionManagementError)
    return hook_of(exc) or (UNKNOWN_HOOK if is_unknown else None)


def name_of(hook: Any) -> HookName:
    """Return the name of a hook of ``hooks``."""
    if name := getattr(hook, _MARK, None):
        return name  # type: ignore[no-any-return]
    return HookName(getattr(getattr(hook, "__self__", None), "label", "?"), getattr(hook, "__name__", "?"))


def call_of(hook: Any, label: str, name: str) -> Any:
    """Return what the core calls for a hook of an extension with this label."""
    hook_name = HookName(label, name)
    if name == "checks":
        call = _leaving_out(
            hook, hook_name, list, lambda checks: [Calls(check, Check, label) for check in checks]
        )
    elif name in LEFT_OUT:
        call = _leaving_out(hook, hook_name, *LEFT_OUT[name])
        call.raising = _raising(hook, hook_name, *reversed(LEFT_OUT[name]))  # type: ignore[attr-defined]
    else:
        read = OWED.get(name) or REFUSED.get(name, _as_it_is)
        call = _raising(hook, hook_name, read, _EMPTY.get(name, _none))
    if column := getattr(hook, "rows_with", ""):
        call = _with_rows(call, column)
    setattr(call, _MARK, hook_name)
    return call


def _with_rows(call: Callable[..., Any], column: str) -> Callable[..., Any]:
    def call_with_rows(rows: Iterable[Any], *args: Any) -> Any:
        found = [row for row in rows if getattr(row, column)]
        return call(found, *args) if found else {}

    return call_with_rows


#: Methods of a channel that are called as hooks of reading are. Errors of the others are those of sending.
METHODS_OF_CHANNELS = [name for name in LEFT_OUT if hasattr(Channel, name)]


def leave_out_of_pages(channel: Channel) -> Channel:
    """Have the methods of a channel left out when they fail that have a default. Returns it."""
    for method in METHODS_OF_CHANNELS:
        setattr(channel, method, call_of(getattr(channel, method), f"channel {channel.name}", method))
    return channel


class Calls:
    """Stands for a kind or a part that an extension has added: the methods of ``base`` are called as hooks are.

    ``of``
        That part itself, for a caller that handles its errors.
    """

    def __init__(self, of: Any, base: type, label: str) -> None:
        self.of = of
        for name, method in vars(base).items():
            if isfunction(method):
                setattr(self, name, call_of(getattr(of, name), label, name))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.of, name)


def _calling(
    hook: Callable[..., Any], name: HookName, read: Callable[[Any], Any], empty: Callable[[], Any]
) -> Callable[..., Any]:
    """Return a function that calls a hook, and reads what it returns."""
    find = getattr(hook, "find", None)

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal find, hook
        if find:  # import_later() returned it, and this is the first call
            hook, find = find(), None
        result = hook(*args, **kwargs)
        if isinstance(result, CoroutineType):
            result.close()
            raise TypeError(f"{name} is async. A hook is a plain function.")
        return empty() if result is None else read(result)

    return call


def _raising(
    hook: Callable[..., Any], name: HookName, read: Callable[[Any], Any], empty: Callable[[], Any]
) -> Callable[..., Any]:
    is_owed, call_hook = name.hook in OWED, _calling(hook, name, read, empty)

    def call(*args: Any, **kwargs: Any) -> Any:
        if is_owed and owing.take and owing.take(name, args):
            return empty()
        try:
            return call_hook(*args, **kwargs)
        except KeyboardInterrupt:
            raise
        except BaseException as exc:
            if isinstance(exc, Exception):
                mark(exc, name)
                raise
            # SystemExit would end the thread, and asyncio.CancelledError the task, that records.
            error = RuntimeError(f"{name} raised {exc!r}.")
            mark(error, name)
            raise error from exc

    return call


def _leaving_out(
    hook: Callable[..., Any], name: HookName, empty: Callable[[], Any], read: Callable[[Any], Any]
) -> Callable[..., Any]:
    call_hook = _calling(hook, name, read, _EMPTY.get(name.hook, empty))

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            with _keeping_transactions():
                return call_hook(*args, **kwargs)
        except KeyboardInterrupt:
            raise
        except BaseException as exc:
            log_left_out(name, exc)
            return empty()

    return call


class _Savepoint:
    """A savepoint of PostgreSQL, set at the first query: a hook that makes none costs no statement."""

    def __init__(self, db: Any) -> None:
        self._db, self._id = db, ""
        self._is_set = False

    def __call__(self, execute: Callable[..., Any], *args: Any) -> Any:
        if not self._is_set:
            self._is_set = True  # the next statement is the savepoint's own
            self._id = self._db.savepoint()
        return execute(*args)

    def end(self, *, is_refused: bool) -> None:
        if not self._id:
            return None
        if not is_refused:
            try:
                return self._db.savepoint_commit(self._id)
            except Error:  # the hook has caught an error of the database
                pass
        self._db.savepoint_rollback(self._id)


_NO_SAVEPOINTS = nullcontext()


def _keeping_transactions() -> AbstractContextManager[None]:
    """Roll back what fails in the block, in transactions of PostgreSQL, which would refuse all that follows."""
    opened = connections.all(initialized_only=True)
    open_ones = [db for db in opened if db.in_atomic_block and db.vendor == "postgresql"]
    # Most hooks are called outside of a transaction, and some for each ring.
    return _savepoints(open_ones) if open_ones else _NO_SAVEPOINTS


@contextmanager
def _savepoints(open_ones: list[Any]) -> Iterator[None]:
    points = [_Savepoint(db) for db in open_ones]
    is_refused = True
    try:
        with ExitStack() as stack:
            for db, point in zip(open_ones, points, strict=True):
                stack.enter_context(db.execute_wrapper(point))
            yield
        is_refused = False
    finally:
        for point in points:
            point.end(is_refused=is_refused)


def log_left_out(name: HookName, exc: BaseException) -> None:
    """Log that a hook was left out, once a minute for each."""
    if is_log_due(f"hook {name}"):
        logger.error("Hook failed and was left out: %s", name, exc_info=exc)


def log_owed(name: HookName, exc: BaseException) -> None:
    """Log that a hook is called again later, once a minute for each."""
    if is_log_due(f"hook {name}"):
        logger.error("Hook failed, and is called again later: %s", name, exc_info=exc)
