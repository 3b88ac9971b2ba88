"""The test vectors of docs/reference/protocol, their items written out."""

import json
import os
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent.parent / "docs" / "reference" / "protocol"
#: Those that take the protocol's 15 and 25 s are run by `make faults`.
SLOW = os.environ.get("CONFORMANCE_SLOW", "") not in ("", "0")


def load(name):
    """One file of vectors, every item that is like another written out."""
    told = json.loads((FOLDER / name).read_text())
    return written_out(told, told.get("like", {}))


def of_a_server(name):
    """The vectors of a file that are to be run."""
    return [vector for vector in load(name)["vectors"] if SLOW or not vector.get("slow")]


def written_out(value, like):
    """The same value with {"like": name, …} laid over that template, and its {id} filled in."""
    if isinstance(value, list):
        return [written_out(part, like) for part in value]
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("like"), str):
        value = like[value["like"]] | {key: part for key, part in value.items() if key != "like"}
        value = fill_in(value, value["id"])
    return {key: written_out(part, like) for key, part in value.items()}


def fill_in(value, id):
    if isinstance(value, dict):
        return {key: fill_in(part, id) for key, part in value.items()}
    return value.replace("{id}", str(id)) if isinstance(value, str) else value


def names(vectors):
    return [vector["name"] for vector in vectors]
