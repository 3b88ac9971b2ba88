"""The bell in the admin of Wagtail: put this app before ``wagtail.admin`` in ``INSTALLED_APPS``."""
