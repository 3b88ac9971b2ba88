"""Route the app's models to a database of their own."""


class AppRouter:
    def db_for_write(self, model, **hints):
        return "app" if model._meta.app_label == "notifications" else None

    db_for_read = db_for_write

    def allow_migrate(self, db, app_label, **hints):
        return (db == "app") == (app_label == "notifications")
