"""Calls inside tasks whose results are stored. ``apps.py`` says what belongs to it."""

from notifications.contrib.steps.api import astep, step

__all__ = ["astep", "step"]
