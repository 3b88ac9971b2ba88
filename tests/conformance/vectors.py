"""Load the test vectors of docs/reference/protocol, with their templates expanded."""

import json
import os
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent.parent / "docs" / "reference" / "protocol"
#: Vectors that take 15 and 25 s run only in `make faults`.
RUN_SLOW = os.environ.get("CONFORMANCE_SLOW", "") not in ("", "0")


def load(name):
    """Return the content of one file of vectors."""
    content = json.loads((FOLDER / name).read_text())
    return expand(content, content.get("like", {}))


def load_for_servers(name):
    """Return the vectors of a file that this run includes."""
    return [vector for vector in load(name)["vectors"] if RUN_SLOW or not vector.get("slow")]


def expand(value, templates):
    """Return a copy in which {"like": name, …} extends that template, with its {id} replaced."""
    if isinstance(value, list):
        return [expand(part, templates) for part in value]
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("like"), str):
        value = templates[value["like"]] | {key: part for key, part in value.items() if key != "like"}
        value = replace_id(value, value["id"])
    return {key: expand(part, templates) for key, part in value.items()}


def replace_id(value, id):
    if isinstance(value, dict):
        return {key: replace_id(part, id) for key, part in value.items()}
    return value.replace("{id}", str(id)) if isinstance(value, str) else value


def names(vectors):
    return [vector["name"] for vector in vectors]
