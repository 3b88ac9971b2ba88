"""The tag of the admin's pages that shows this app and its optional ones as one section."""

from __future__ import annotations

from typing import Any

from django import template
from django.apps import apps

register = template.Library()
CORE = "notifications"


@register.simple_tag(takes_context=True)
def merge_sections(context: template.Context) -> str:
    """Have the index and the sidebar, which are rendered below, list the models of all apps of the package together."""
    for name in ("available_apps", "app_list"):
        if isinstance(sections := context.get(name), list):
            sections[:] = _merge(sections)
    return ""


def _merge(sections: list[dict[str, Any]]) -> list[dict[str, Any]]:
    own = [section for section in sections if _is_own(section.get("app_label"))]
    if len(own) < 2:
        return sections
    first = next((section for section in own if section["app_label"] == CORE), own[0])
    models = sorted(
        (model for section in own for model in section["models"]), key=lambda model: model["name"]
    )
    merged = {**first, "name": apps.get_app_config(CORE).verbose_name, "models": models}
    return [
        merged if section is first else section
        for section in sections
        if section is first or section not in own
    ]


def _is_own(label: Any) -> bool:
    config = apps.app_configs.get(label)
    return config is not None and f"{config.name}.".startswith(f"{CORE}.")
