"""Arguments and results of Celery's tasks in the JSON of jobs, as kombu encodes and decodes them.

kombu also encodes UUIDs, dates, times and decimals, and what a project registers by ``kombu.utils.json.register_type``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kombu.utils import json as kombu_json


def encode_arguments(
    name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a task with this name as JSON has them. Raises TypeError, which names the argument."""
    encoded = [_encode(name, f"argument {place}", value) for place, value in enumerate(args, 1)]
    return encoded, {key: _encode(name, key, value) for key, value in kwargs.items()}


def decode_arguments(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return arguments as the task gets them."""
    decoded_args, decoded_kwargs = decode([list(args), dict(kwargs)])
    return decoded_args, decoded_kwargs


def encode(value: Any) -> Any:
    """Return a value as JSON has it. Raises TypeError or ValueError, or what the class of the value raises."""
    return json.loads(kombu_json.dumps(value))  # type: ignore[no-untyped-call]


def decode(value: Any) -> Any:
    """Return the value that ``encode()`` was given."""
    return kombu_json.loads(json.dumps(value))  # type: ignore[no-untyped-call]


def _encode(name: str, argument: str, value: Any) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    try:
        return encode(value)
    except (TypeError, ValueError, RecursionError) as exc:
        raise TypeError(
            f"{argument} of {name} is of type {type(value).__name__}, which is not JSON: {exc}. Pass a primary key, or "
            "what kombu encodes as JSON."
        ) from exc
