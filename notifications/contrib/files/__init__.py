"""Files that jobs make, for their owners to download. ``apps.py`` says what belongs to it."""

from notifications.contrib.files.api import aadd_file, add_file, aresult_file, result_file

__all__ = ["aadd_file", "add_file", "aresult_file", "result_file"]
