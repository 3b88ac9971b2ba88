"""Workers that roll up statistics all the time, also those of the current minute, to which others still add."""


def change():
    from notifications.contrib.operations.statistics import roll_up

    roll_up.INTERVAL_SECONDS = 0.1
    roll_up.ROLL_UP_AFTER_SECONDS = 0.0
