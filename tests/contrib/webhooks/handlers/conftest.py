import pytest

from notifications.contrib.webhooks import handlers
from tests.contrib.webhooks.handlers import tasks as handler_tasks

PATH = "tests.contrib.webhooks.handlers.tasks"
ALL = handlers.EVENTS


@pytest.fixture
def declare(settings):
    """declare({event: [names]}) declares tasks of this package as handlers; declare(name) one for all events."""
    handler_tasks.events.clear()

    def set_handlers(handlers):
        if isinstance(handlers, str):
            handlers = {event: [handlers] for event in ALL}
        paths = {event: [f"{PATH}.{name}" for name in names] for event, names in handlers.items()}
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "HANDLERS": paths}

    return set_handlers
