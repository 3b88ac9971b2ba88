"""From a ring to a frame on a client's connection.

``doorbell/`` rings, the ``hub`` marks the users, ``reader`` reads their changes once, ``frames`` encodes them, and
``fanout`` hands them to the ``subscriber`` objects, which ``transports/`` implement. ``auth/`` decides who may
connect and who has signed out, ``servers/`` knows Daphne and uvicorn. ``watched_users`` reads the positions, by which
the hub finds what followed a lost ring.
"""
