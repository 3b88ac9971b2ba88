from django.contrib import admin

from asyncsite.models import Call, Report


class ReadOnly:
    """Allow viewing and deleting, but not adding or changing."""

    #: Parameters of the list's address: those of its filters.
    parameters = ()

    def lookup_allowed(self, lookup, value, request):
        """Allow no lookups but those of the list's filters: they would tell what fields hold that no page shows."""
        return lookup in self.parameters

    def has_add_permission(self, request, obj=None):
        return False

    def has_change_permission(self, request, obj=None):
        return False


@admin.register(Report)
class ReportAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ["title", "owner", "size", "created_at", "job_id"]
    list_select_related = ["owner"]
    search_fields = ["title", "owner__username"]
    date_hierarchy = "created_at"
    parameters = ["created_at__year", "created_at__month", "created_at__day"]
    fields = ["title", "owner", "size", "job_id", "created_at"]


@admin.register(Call)
class CallAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ["url", "report", "position", "outcome", "status", "elapsed_ms", "bytes"]
    list_filter = ["outcome", "status"]
    parameters = ["outcome__exact", "outcome__isnull", "status", "status__isnull"]
    list_select_related = ["report"]
    search_fields = ["url", "error"]
