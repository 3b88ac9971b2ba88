"""Workers that roll up statistics all the time, also those of the current minute, to which others still add."""

from tests.support.bounds import set_bounds


def change():
    set_bounds(setattr, delays=0.1)
