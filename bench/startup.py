"""Print the number of imported modules and the ms of CPU after ``django.setup()``, or after a command of manage.py.

``python -m bench.startup [COMMAND …]``
"""

import contextlib
import io
import sys
import time


def main() -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        if arguments := sys.argv[1:]:
            from django.core.management import execute_from_command_line

            execute_from_command_line(["manage.py", *arguments])
        else:
            import django

            django.setup()
    print(len(sys.modules), time.process_time() * 1000)


if __name__ == "__main__":
    main()
