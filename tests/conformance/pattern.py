"""Whether a frame is what a vector expects. Texts that begin with $ stand for what cannot be known in advance."""

import re
import uuid

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def is_path(value):
    return isinstance(value, str) and value.startswith("/") and not value.startswith("//")


def is_uuid(value):
    try:
        return isinstance(value, str) and str(uuid.UUID(value)) == value
    except ValueError:
        return False


KINDS = {
    "$any": lambda value: True,
    "$integer": lambda value: type(value) is int and 0 <= value < 2**53,
    "$string": lambda value: isinstance(value, str),
    "$path": is_path,
    "$link": lambda value: value is None or is_path(value),
    "$time": lambda value: isinstance(value, str) and bool(TIME.fullmatch(value)),
    "$uuid": is_uuid,
}


def differences(value, pattern, known, where="frame"):
    """Yield what is not as expected. Names that are met first are bound in `known`."""
    if isinstance(pattern, str) and pattern.startswith("$"):
        if pattern in KINDS:
            if not KINDS[pattern](value):
                yield f"{where} is {value!r}, no {pattern[1:]}"
        elif known.setdefault(pattern[1:], value) != value:
            yield f"{where} is {value!r}, and {pattern} was {known[pattern[1:]]!r}"
    elif isinstance(pattern, dict) and pattern and set(pattern) <= {"above", "to", "as"}:
        low = pattern.get("above", -1)
        low = known[low[1:]] if isinstance(low, str) else low
        if type(value) is not int or value <= low or value > pattern.get("to", 2**53):
            yield f"{where} is {value!r}, not above {low} and at most {pattern.get('to')}"
        if "as" in pattern:
            known[pattern["as"][1:]] = value
    elif isinstance(pattern, dict):
        if not isinstance(value, dict):
            yield f"{where} is {value!r}, no object"
            return
        for key in value.keys() - pattern.keys():
            yield f"{where} has the key {key}"
        for key, part in pattern.items():
            if key not in value:
                if part != "$maybe":
                    yield f"{where} has no {key}"
            elif part != "$maybe":
                yield from differences(value[key], part, known, f"{where}.{key}")
    elif isinstance(pattern, list):
        if not isinstance(value, list) or len(value) != len(pattern):
            yield f"{where} is {value!r}, no array of {len(pattern)}"
            return
        for number, (one, part) in enumerate(zip(value, pattern, strict=True)):
            yield from differences(one, part, known, f"{where}[{number}]")
    elif value != pattern or type(value) is not type(pattern):
        yield f"{where} is {value!r}, not {pattern!r}"
