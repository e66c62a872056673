"""The health and the metrics of a whole stack, from the first call on."""

import re

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Client, ClientOf
from tools.embedded.environment import STORES
from tools.embedded.supervisor import Stack

pytestmark = pytest.mark.stack


def addresses(stack: Stack) -> dict[str, str]:
    """Return the address of the metrics of each process."""
    names = {
        f"{service}_{role}": f"{service.upper()}{role.replace('api', '').replace('worker', '_WORKER')}_PORT"
        for service in STORES
        for role in ("api", "worker")
    }
    names["gateway"] = "GATEWAY_METRICS_PORT"
    return {name: f"http://127.0.0.1:{stack.environment[variable]}/metrics" for name, variable in names.items()}


async def read_metrics(url: str) -> str:
    async with aiohttp.ClientSession() as client, client.get(url) as answer:
        assert answer.status == 200
        return await answer.text()


async def test_health_is_complete_from_the_first_call_on(client_of: ClientOf) -> None:
    answer = await client_of(None)("GET", "/api/health/")
    assert (answer.status, answer.body["status"]) == (200, "ok")
    assert answer.body["services"].keys() == set(STORES)
    for name, service in answer.body["services"].items():
        assert service["dependencies"] == {"api": "ok", "worker": "ok", "database": "ok", "kafka": "ok"}
        assert service["lag"]
        assert not [group for group in service["lag"] if not group.startswith(f"{name}.")]
    providers = answer.body["services"]["delivery"]["providers"]
    assert providers["mobile_message"] == {"status": "available"}


async def test_no_process_shows_organisations_phones_or_texts(
    stack: Stack, client_of: ClientOf, new_organisation: object
) -> None:
    call: Client = client_of(organisation := new_organisation())  # type: ignore[operator]
    text, phone = "Zebra crossing ahead", "0491 570 006"
    sent = await call("POST", "/api/sms/send/", {"message": text, "recipient": phone}, headers={"Prefer": "wait=20"})
    assert sent.status in (200, 201, 202), sent
    found = {name: await read_metrics(url) for name, url in addresses(stack).items()}
    for name, metrics in found.items():
        assert "cooee_" in metrics, name
        for private in (organisation, "Zebra", "491570006", "org_"):
            assert private not in metrics, name
        labels = [sample.labels for family in text_string_to_metric_families(metrics) for sample in family.samples]
        assert not [one for one in labels if any(re.search(r"\d{6}", value) for value in one.values())], name
    assert 'route="/api/sms/send/",service="gateway",status="20' in found["gateway"]
    assert (
        'cooee_messages_total{failure_category="-",outcome="sent",provider="mobile_message"}'
        in found["delivery_worker"]
    )
    assert 'cooee_database_up{service="scheduling"} 1.0' in found["scheduling_worker"]


async def test_no_public_path_reaches_the_metrics(client_of: ClientOf) -> None:
    for path in (
        "/metrics",
        "/metrics/",
        "/api/metrics/",
        "/api/contacts/../../metrics",
        "/api/contacts/%2e%2e/metrics",
        "/health/metrics",
        "/health/details",
        "/media/../metrics",
    ):
        for caller in (client_of(None), client_of("org_metrics", role="admin")):
            answer = await caller("GET", path)
            assert answer.status in (401, 404), (path, answer)
            assert "cooee_" not in str(answer.body)
