"""Text that jobs write while they run, for readers who follow it. ``apps.py`` says what belongs to it."""

from notifications.contrib.output.api import aoutput_from, output

__all__ = ["aoutput_from", "output"]
