"""Write a small transaction every 5 ms, and print the durations in ms.

It starts at a line of standard input and stops at the next one, any number of times; each time it prints a line.
"""

import json
import sys
import threading
import time

import django


def main() -> None:
    django.setup()
    from django.contrib.auth import get_user_model

    users = get_user_model()
    me = users.objects.earliest("pk").pk
    users.objects.filter(pk=me).update(last_name="ready")
    while sys.stdin.readline():
        stopped = threading.Event()
        threading.Thread(target=lambda end=stopped: (sys.stdin.readline(), end.set()), daemon=True).start()
        waits = []
        while not stopped.wait(0.005):
            start = time.perf_counter()
            users.objects.filter(pk=me).update(last_name=str(len(waits) % 1000))
            waits.append((time.perf_counter() - start) * 1000)
        print(json.dumps(waits), flush=True)


if __name__ == "__main__":
    main()
