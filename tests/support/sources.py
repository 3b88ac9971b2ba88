"""The parsed sources of the package: tests of several rules read each file, and one process parses it once.

nodes = list_nodes(path)             # each node of the file, from the module down
"""

import ast
import gc
from functools import cache


@cache
def parse(path):
    """Return the syntax tree of a file. It must not be changed."""
    was_enabled = gc.isenabled()
    gc.disable()  # which would look through each tree again and again: half of the time
    try:
        return ast.parse(path.read_text())
    finally:
        if was_enabled:
            gc.enable()


@cache
def list_nodes(path):
    """Return all nodes of a file, as ``ast.walk()`` has them."""
    return tuple(ast.walk(parse(path)))
