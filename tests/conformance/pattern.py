"""Compare a frame with the pattern of a vector. Strings that begin with $ are variables."""

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


PREDICATES = {
    "$any": lambda value: True,
    "$integer": lambda value: type(value) is int and 0 <= value < 2**53,
    "$string": lambda value: isinstance(value, str),
    "$path": is_path,
    "$link": lambda value: value is None or is_path(value),
    "$time": lambda value: isinstance(value, str) and bool(TIME.fullmatch(value)),
    "$uuid": is_uuid,
}


def differences(value, pattern, variables, path="frame"):
    """Yield each difference as text. A variable without a value gets one in `variables`."""
    if isinstance(pattern, str) and pattern.startswith("$"):
        if pattern in PREDICATES:
            if not PREDICATES[pattern](value):
                yield f"{path} is {value!r}, not {pattern[1:]}"
        elif variables.setdefault(pattern[1:], value) != value:
            yield f"{path} is {value!r}, and {pattern} was {variables[pattern[1:]]!r}"
    elif isinstance(pattern, dict) and pattern and set(pattern) <= {"above", "to", "as"}:
        low = pattern.get("above", -1)
        low = variables[low[1:]] if isinstance(low, str) else low
        if type(value) is not int or value <= low or value > pattern.get("to", 2**53):
            yield f"{path} is {value!r}, not above {low} and at most {pattern.get('to')}"
        if "as" in pattern:
            variables[pattern["as"][1:]] = value
    elif isinstance(pattern, dict):
        if not isinstance(value, dict):
            yield f"{path} is {value!r}, not an object"
            return
        for key in value.keys() - pattern.keys():
            yield f"{path} has the key {key}"
        for key, part in pattern.items():
            if key not in value:
                if part != "$maybe":
                    yield f"{path} has no {key}"
            elif part != "$maybe":
                yield from differences(value[key], part, variables, f"{path}.{key}")
    elif isinstance(pattern, list):
        if not isinstance(value, list) or len(value) != len(pattern):
            yield f"{path} is {value!r}, not an array of {len(pattern)}"
            return
        for index, (item, part) in enumerate(zip(value, pattern, strict=True)):
            yield from differences(item, part, variables, f"{path}[{index}]")
    elif value != pattern or type(value) is not type(pattern):
        yield f"{path} is {value!r}, not {pattern!r}"
