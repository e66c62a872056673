"""The optional host of the operators' page on Kubernetes."""

import os
from pathlib import Path

import pytest

from cooee.page.settings import PageSettings
from cooee.stack import Stack

from .manifests import FOLDER, OVERLAYS, Manifests, render
from .schemas import violations
from .test_network import outside, reached
from .test_settings import sample

KUSTOMIZATION = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [{overlay}]
components: [{component}]
"""


@pytest.fixture(params=OVERLAYS)
def with_host(request: pytest.FixtureRequest, tmp_path: Path) -> Manifests:
    """The manifests of an overlay with the component."""
    paths = {"overlay": FOLDER / "overlays" / request.param, "component": FOLDER / "components/page-ingress"}
    relative = {name: os.path.relpath(path, tmp_path) for name, path in paths.items()}
    (tmp_path / "kustomization.yaml").write_text(KUSTOMIZATION.format(**relative))
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


def test_the_ingress_controller_reaches_the_page_and_nobody_else_does(with_host: Manifests) -> None:
    page = ("operators-page", "http")
    assert page in reached(with_host, outside("traefik"))
    for namespace in ("default", "keda", "kube-system", "monitoring", "internet"):
        assert page not in reached(with_host, outside(namespace)), namespace
