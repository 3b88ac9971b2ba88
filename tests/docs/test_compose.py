"""The compose files of the documentation are valid YAML, and what their services refer to exists."""

import pytest
import yaml

from tests.docs.pages import DOCS, blocks

FILES = [yaml.safe_load(block) for block in blocks(DOCS / "how-to/containers.md", "yaml")]

#: The keys of services that the files use; a misspelled one has no effect.
KEYS = {
    *("build", "image", "command", "env_file", "environment", "depends_on", "restart", "ports", "volumes"),
    *("healthcheck", "stop_grace_period", "deploy", "configs"),
}


@pytest.mark.parametrize("file", FILES, ids=["built-in worker", "Celery"])
def test_references_exist(file):
    """Services that others depend on, with a health check where one is waited for, named volumes and configs."""
    services = file["services"]
    for name, service in services.items():
        assert service.keys() <= KEYS and ("image" in service) != ("build" in service), name
        depends_on = service.get("depends_on", {})
        assert set(depends_on) <= services.keys()
        for other in depends_on if isinstance(depends_on, dict) else ():
            assert depends_on[other] != {"condition": "service_healthy"} or "healthcheck" in services[other]
        for volume in service.get("volumes", ()):
            assert volume.partition(":")[0] in file["volumes"]
        for config in service.get("configs", ()):
            assert config["source"] in file["configs"]


def test_hosts_in_addresses_are_services():
    """Those of the database, of Redis and of nginx's upstream."""
    for file in FILES:
        services = file["services"]
        for service in services.values():
            environment = service.get("environment", {})
            assert environment.get("DB_HOST", "db") in services
            for name in ("REDIS_URL", "CELERY_BROKER_URL"):
                host = environment.get(name, "redis://db").partition("://")[2].partition(":")[0]
                assert host in services
    nginx = FILES[1]["configs"]["nginx"]["content"]
    assert "server web:8000;" in nginx
    # A single $ would stand for a variable of compose.
    assert "$" not in nginx.replace("$$", "")


def test_celery_deployment_is_that_of_the_text():
    replicas = {
        name: service["deploy"]["replicas"]
        for name, service in FILES[1]["services"].items()
        if "deploy" in service
    }
    assert replicas == {"web": 3, "celery": 4}
