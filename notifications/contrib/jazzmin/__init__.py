"""The bell in the header of Jazzmin: put this app before ``jazzmin`` in ``INSTALLED_APPS``."""
