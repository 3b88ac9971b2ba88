"""A site whose alerts are over sooner than in production."""

from tests.support.bounds import set_bounds


def change():
    from notifications.contrib.operations.alerts import conditions

    conditions.WINDOW_SECONDS = 5.0
    set_bounds(setattr, delays=1.0)
