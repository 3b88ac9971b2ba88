"""The admins of the core without what apps add to them."""

from contextlib import contextmanager

from notifications.admin import JobAdmin, NotificationAdmin


@contextmanager
def own_bases(*, with_apps=True):
    """Undo what `extend()` does in the block, and leave out the classes of optional apps."""
    kept = {model_admin: model_admin.__bases__ for model_admin in (JobAdmin, NotificationAdmin)}
    try:
        for model_admin, bases in kept.items() if not with_apps else ():
            model_admin.__bases__ = tuple(
                base for base in bases if "notifications.contrib" not in base.__module__
            )
        yield
    finally:
        for model_admin, bases in kept.items():
            model_admin.__bases__ = bases
