"""The bell in the header of django-unfold: put this app before ``unfold`` in ``INSTALLED_APPS``."""
