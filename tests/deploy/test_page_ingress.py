"""The optional host of the operators' page on Kubernetes."""

import os
from pathlib import Path

import pytest
import yaml

from cooee.page.settings import PageSettings
from cooee.stack import Stack

from .manifests import FOLDER, OVERLAYS, ROOT, Manifests, render
from .schemas import violations
from .test_network import outside, reached
from .test_settings import sample

HOST = "operators.own.test"


@pytest.fixture(params=OVERLAYS)
def with_host(request: pytest.FixtureRequest, tmp_path: Path) -> Manifests:
    """The manifests of an overlay with the component, by the example in docs/deploy.md but with another host."""
    section = (ROOT / "docs/deploy.md").read_text().split("### A host for the operators' page")[1]
    text = section.split("```")[1].replace("operators.example.com", HOST).replace("pk_live_…", "pk_live_b3duLnRlc3Qk")
    example = yaml.safe_load(text)
    assert example["components"] == ["../../components/page-ingress"]
    paths = [FOLDER / "overlays" / request.param, FOLDER / "components/page-ingress"]
    overlay, component = [os.path.relpath(path, tmp_path) for path in paths]
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [overlay],
        "components": [component],
        "configMapGenerator": [{"name": "page", "behavior": "merge", "literals": example["configMapGenerator"]}],
        "patches": example["patches"],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return render(tmp_path)


def test_the_host_leads_to_the_page_with_tls_and_is_the_address_of_the_page(with_host: Manifests) -> None:
    assert [problem for one in with_host.all for problem in violations(one)] == []
    ingress = with_host.named("Ingress")["operators-page"]
    (rule,) = ingress["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert path["backend"]["service"] == {"name": "operators-page", "port": {"name": "http"}}
    assert [host for tls in ingress["spec"]["tls"] for host in tls["hosts"]] == [rule["host"]]
    (page,) = [pod for pod in with_host.pods() if pod.name == "operators-page"]
    environment = {name: sample(value) for name, value in with_host.environment(page).items() if value}
    settings = Stack(environment).read_settings(PageSettings, "the operators' page")
    assert settings.origins == (f"https://{rule['host']}",)


def test_the_example_replaces_each_host_and_each_placeholder(with_host: Manifests) -> None:
    text = str(with_host.all)
    assert text.count(HOST) == 3
    assert not [name for name in ("operators.example.com", "internal-ingress") if name in text]
    assert with_host.named("Ingress")["operators-page"]["spec"]["ingressClassName"] == "traefik-internal"


def test_the_ingress_controller_reaches_the_page_and_nobody_else_does(with_host: Manifests) -> None:
    page = ("operators-page", "http")
    assert page in reached(with_host, outside("traefik-internal"))
    for namespace in ("default", "keda", "kube-system", "monitoring", "internet", "traefik"):
        assert page not in reached(with_host, outside(namespace)), namespace
