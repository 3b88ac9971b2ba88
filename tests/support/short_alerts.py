"""A site whose alerts are over sooner than in production."""


def change():
    from notifications.contrib.operations.alerts import conditions, evaluation

    conditions.WINDOW_SECONDS = 5.0
    evaluation.CLEAR_SECONDS = 1.0
