"""Route the app's models to a database of their own."""


def is_own(label):
    return label.partition("_")[0] == "notifications"


class AppRouter:
    def db_for_write(self, model, **hints):
        return "app" if is_own(model._meta.app_label) else None

    db_for_read = db_for_write

    def allow_migrate(self, db, app_label, **hints):
        return (db == "app") == is_own(app_label)
