"""A neighbour that writes a small transaction every 5 ms; prints its waits (ms).

From the first line of its input until the second.
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
    sys.stdin.readline()
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), ended.set()), daemon=True).start()
    waits = []
    while not ended.wait(0.005):
        start = time.perf_counter()
        users.objects.filter(pk=me).update(last_name=str(len(waits) % 1000))
        waits.append((time.perf_counter() - start) * 1000)
    json.dump(waits, sys.stdout)


if __name__ == "__main__":
    main()
