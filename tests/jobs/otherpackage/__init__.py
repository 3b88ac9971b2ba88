"""A package that knows nothing of this app, with a task of the shape of django-modelsearch's, which Wagtail uses."""
