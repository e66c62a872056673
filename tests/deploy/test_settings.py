"""The variables of every process: each is a setting of it, none is missing, and the process accepts the values."""

import importlib
import os
import re
from collections.abc import Callable

import pytest
from pydantic import SecretStr
from pydantic_settings import BaseSettings

from common.settings import StoreSettings, env_name, load_settings
from cooee.page.settings import PageSettings
from cooee.stack import Stack
from delivery.providers import make_chains, make_providers
from delivery.providers import settings_classes as provider_settings
from delivery.storage import make_storage
from delivery.storage import settings_classes as storage_settings

from .manifests import RUNNING, STORES, Manifests, Pod

SERVICES = ("gateway", *STORES)
PROGRAMS = (*SERVICES, "operator")
ADMINISTRATOR = "DATABASE_URL"  # read by `migrate` itself
GATEWAY = "GATEWAY_URL"  # read by `cooee` itself
SAMPLES = {
    "clerk_webhook_signing_secret": "whsec_ZGV2ZWxvcG1lbnQtb25seS13ZWJob29r",
    "mobile_message_sender_id": "Cooee",
}


def service_settings(service: str) -> type[BaseSettings]:
    found: type[BaseSettings] = importlib.import_module(f"{service}.settings").Settings
    return found


def classes(service: str) -> list[type[BaseSettings]]:
    """Return every class whose settings a process of the service reads."""
    if service == "operator":
        return [*(one for store in STORES for one in classes(store)), PageSettings]
    more = [*provider_settings(), *storage_settings()] if service == "delivery" else []
    return [service_settings(service), *more]


def variables(*settings: type[BaseSettings]) -> set[str]:
    return {env_name(one, field) for one in settings for field in one.model_fields}


def secret_variables() -> set[str]:
    return {
        env_name(one, name)
        for service in PROGRAMS
        for one in classes(service)
        for name, field in one.model_fields.items()
        if field.annotation in (SecretStr, SecretStr | None)
    }


def sample(template: str) -> str:
    """Return a value as External Secrets makes it."""
    return re.sub(r"\{\{ \.(\w+) \}\}", lambda name: SAMPLES.get(name[1], "sample-" * 6 + name[1]), template)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Manifests, Pod], None]:
    """`use(manifests, pod)` makes the environment that of a pod."""

    def set_all(manifests: Manifests, pod: Pod) -> None:
        for name in secret_variables() | variables(*(one for service in PROGRAMS for one in classes(service))):
            monkeypatch.delenv(name, raising=False)
        for name, value in manifests.environment(pod).items():
            if value is not None and not value.startswith("/etc/cooee/kafka/"):  # files that a pod has
                monkeypatch.setenv(name, sample(value))

    return set_all


def test_every_variable_is_a_setting(manifests: Manifests) -> None:
    everywhere = variables(*(one for service in SERVICES for one in classes(service)))
    common = {
        name for key, one in manifests.named("ConfigMap").items() if key.startswith("common-") for name in one["data"]
    }
    assert common <= everywhere
    for pod in manifests.pods():
        if pod.service == "valkey":
            continue
        own = {"migrate": {ADMINISTRATOR}, "operator": {GATEWAY}, "page": {GATEWAY}}.get(pod.role, set())
        known = variables(*classes(pod.service)) | common | own
        assert set(manifests.environment(pod)) <= known, pod.name


def test_no_secret_is_in_a_config_map(manifests: Manifests) -> None:
    shown = {name for one in manifests.of("ConfigMap") for name, value in one["data"].items() if "@" in value}
    listed = {name for one in manifests.of("ConfigMap") for name in one["data"]}
    assert not shown
    assert listed & secret_variables() <= {"VALKEY_URL"}  # it has no password, and only the gateway reaches it


def test_every_secret_that_a_pod_uses_is_made(manifests: Manifests) -> None:
    made = {*manifests.named("ExternalSecret"), *manifests.named("KafkaUser"), "cooee-cluster-ca-cert"}
    made |= {f"{name}-app" for name in manifests.named("Cluster")}
    for pod in manifests.pods():
        used = re.findall(r"'secret(?:Ref|KeyRef)?': \{[^{}]*?'name': '([\w-]+)'", str(pod.spec))
        assert set(used) <= made, pod.name
        assert used or pod.service == "valkey", pod.name


async def test_a_process_accepts_its_settings(manifests: Manifests, use: Callable[[Manifests, Pod], None]) -> None:
    for pod in [pod for pod in manifests.pods() if pod.role in (*RUNNING, "migrate")]:
        use(manifests, pod)
        settings = load_settings(service_settings(pod.service))  # type: ignore[type-var]
        port = settings.worker_port if pod.role == "worker" else settings.port
        expected = {} if pod.role == "migrate" else {"http": port}
        if pod.name == "gateway-api":
            expected["metrics"] = settings.metrics_port
        assert pod.ports == expected, pod.name
        if pod.service == "delivery":
            assert make_chains(settings)
            for provider in make_providers(settings).values():
                await provider.close()
            await make_storage(settings).close()


def test_the_page_accepts_its_settings_and_those_of_clerk_are_the_gateways(
    manifests: Manifests, use: Callable[[Manifests, Pod], None]
) -> None:
    pods = {pod.name: pod for pod in manifests.pods()}
    page = pods["operators-page"]
    use(manifests, page)
    settings = Stack(os.environ).read_settings(PageSettings, "the operators' page")
    assert page.ports == {"http": settings.operators_port}
    assert settings.operators_secret is not None, "each replica must accept the cookies of the others"
    if "operators-page" not in manifests.named("Ingress"):
        assert settings.origins[0] == f"http://127.0.0.1:{settings.operators_port}", "the address of a port-forward"
    gateway = manifests.environment(pods["gateway-api"])
    clerk = variables(PageSettings) & variables(service_settings("gateway"))
    clerk = {name for name in clerk if name.startswith("CLERK_")}
    assert len(clerk) == 4
    assert {name: manifests.environment(page)[name] for name in clerk} == {name: gateway.get(name) for name in clerk}


def test_who_uses_kafka_shows_a_certificate(manifests: Manifests) -> None:
    names = {env_name(StoreSettings, name) for name in ("kafka_ca_file", "kafka_certificate_file", "kafka_key_file")}
    with_one = set()
    for pod in manifests.pods():
        found = names & set(manifests.environment(pod))
        assert found in (set(), names), pod.name
        if found:
            (volume,) = [one for one in pod.spec["volumes"] if one["name"] == "kafka"]
            assert volume["projected"]["sources"][0]["secret"]["name"] == pod.service
            with_one.add(pod.name)
    assert with_one == {"contacts-worker", "scheduling-worker", "delivery-worker", "delivery-api"}


def test_the_services_find_each_other(manifests: Manifests) -> None:
    addresses = {f"http://{name}:{one['spec']['ports'][0]['port']}" for name, one in manifests.named("Service").items()}
    for pod in [pod for pod in manifests.pods() if pod.role in RUNNING]:
        environment = manifests.environment(pod)
        urls = {
            value for name, value in environment.items() if name in ("CONTACTS_URL", "SCHEDULING_URL", "DELIVERY_URL")
        }
        assert len(urls) == 3
        assert urls <= addresses
        if pod.service in STORES:
            url = environment[f"{pod.service.upper()}_DATABASE_URL"] or ""
            assert f"@{pod.service}-db-rw:5432/cooee" in url
