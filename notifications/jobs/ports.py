"""The functions of the doorbell, which stands above ``jobs`` and sets them here when the app is ready."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: ``listen(callback)``, which returns a function that ends it, and ``flush()``.
listen: Callable[..., Callable[[], Any]]
flush_rings: Callable[[], Any]
