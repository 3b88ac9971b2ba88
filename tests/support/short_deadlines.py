"""A site whose processes close silent connections after TEST_DEADLINES seconds, sooner than in production."""

import os

from tests.support.bounds import set_bounds


def change():
    from notifications.db import deadlines
    from notifications.realtime.servers import uvicorn

    seconds = float(os.environ["TEST_DEADLINES"])
    set_bounds(setattr, statements=seconds, clients=seconds, beats=seconds, checks=seconds)
    deadlines.OPTIONS |= {
        "connect_timeout": int(seconds),
        "tcp_user_timeout": int(seconds * 1000),
    }
    uvicorn.KEEPALIVE_OPTIONS |= {"TCP_KEEPIDLE": 1, "TCP_KEEPINTVL": 1}
