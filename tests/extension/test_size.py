"""How much the core asks of extensions: limits that only shrink."""

from dataclasses import fields, is_dataclass

from notifications.extension import (
    Channel,
    Check,
    Dispatch,
    Duty,
    Event,
    Extension,
    Fact,
    Finding,
    JobSection,
    OwnTask,
    PageButton,
    RecordedTransaction,
    Topic,
    WaitKind,
    WorkerPart,
)

#: Attributes and hooks of the class, and of objects that hooks were moved to.
MAX_HOOKS = 32
HOOKS = [kind for kind in Extension.__mro__ if kind.__module__.startswith("notifications")]
#: Attributes and methods of what extensions make, or are given.
MAX_NAMES_OF_OBJECTS = 100
OBJECTS = (
    *(Channel, Check, Dispatch, Duty, Event, Fact, Finding, JobSection, OwnTask, PageButton),
    *(RecordedTransaction, Topic, WaitKind, WorkerPart),
)
#: Those of Django's ``AppConfig``.
OF_DJANGO = {"default", "default_auto_field"}


def names_of(owner):
    """Return the public names that a class adds to its bases."""
    names = (
        set(vars(owner)) | {each.name for each in fields(owner)} if is_dataclass(owner) else set(vars(owner))
    )
    names |= set(getattr(owner, "_fields", ()))
    return {name for name in names if not name.startswith("_")} - OF_DJANGO


def test_hooks():
    found = [f"{owner.__name__}.{name}" for owner in HOOKS for name in sorted(names_of(owner))]
    found += [f"operations.{name}" for name in ("metrics", "overview_sections")]
    assert len(found) <= MAX_HOOKS, found


def test_objects():
    found = [f"{owner.__name__}.{name}" for owner in OBJECTS for name in sorted(names_of(owner))]
    assert len(found) <= MAX_NAMES_OF_OBJECTS, found
