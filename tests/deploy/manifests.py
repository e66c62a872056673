"""The manifests of deploy/kubernetes, as files and as kustomize renders them."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/kubernetes"
OVERLAYS = ("staging", "production")
STORES = ("contacts", "scheduling", "delivery")
RUNNING = ("api", "worker")
PAGE = "page"
NAME, COMPONENT = "app.kubernetes.io/name", "app.kubernetes.io/component"

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """The pod of a Deployment, Job or CronJob."""

    owner: Manifest
    template: Manifest

    @property
    def name(self) -> str:
        return str(self.owner["metadata"]["name"])

    @property
    def labels(self) -> dict[str, str]:
        found: dict[str, str] = self.template["metadata"]["labels"]
        return found

    @property
    def service(self) -> str:
        return self.labels[NAME]

    @property
    def role(self) -> str:
        return self.labels[COMPONENT]

    @property
    def spec(self) -> Manifest:
        found: Manifest = self.template["spec"]
        return found

    @property
    def containers(self) -> list[Manifest]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def ports(self) -> dict[str, int]:
        return {
            port["name"]: port["containerPort"] for container in self.containers for port in container.get("ports", [])
        }


class Manifests:
    """All manifests of an overlay, as kustomize renders them."""

    def __init__(self, all_of_them: list[Manifest]) -> None:
        self.all = all_of_them

    def of(self, *kinds: str) -> list[Manifest]:
        """Return the manifests of some kinds."""
        return [one for one in self.all if one["kind"] in kinds]

    def named(self, kind: str) -> dict[str, Manifest]:
        """Return name → manifest of a kind."""
        return {one["metadata"]["name"]: one for one in self.of(kind)}

    def pods(self) -> list[Pod]:
        """Return the pods of everything that has pods of ours."""
        return [
            *(Pod(one, one["spec"]["template"]) for one in self.of("Deployment", "Job")),
            *(Pod(one, one["spec"]["jobTemplate"]["spec"]["template"]) for one in self.of("CronJob")),
        ]

    def environment(self, pod: Pod) -> dict[str, str | None]:
        """Return the variables of a pod. A value that comes from a secret has its template; None: it has none here."""
        variables: dict[str, str | None] = {}
        secrets = self.named("ExternalSecret")
        for container in pod.containers:
            for source in container.get("envFrom", []):
                if "configMapRef" in source:
                    variables |= self.named("ConfigMap")[source["configMapRef"]["name"]]["data"]
                else:
                    variables |= secrets[source["secretRef"]["name"]]["spec"]["target"]["template"]["data"]
            variables |= {one["name"]: self._value(one) for one in container.get("env", [])}
        return variables

    def _value(self, variable: Manifest) -> str | None:
        reference = variable.get("valueFrom", {}).get("configMapKeyRef")
        if reference is None:
            return variable.get("value")
        values: dict[str, str] = self.named("ConfigMap")[reference["name"]]["data"]
        return values.get(reference["key"]) if reference.get("optional") else values[reference["key"]]


def files() -> list[Path]:
    """Return every YAML file."""
    return sorted(FOLDER.glob("**/*.yaml"))


def documents(path: Path) -> list[Manifest]:
    """Return the documents of a file."""
    return [one for one in yaml.safe_load_all(path.read_text()) if one]


def written() -> Iterator[tuple[Path, Manifest]]:
    """Yield every manifest as it is written, without kustomizations and patches."""
    for path in files():
        if path.name != "kustomization.yaml" and path.parent.name != "patches":
            yield from ((path, one) for one in documents(path))


def command() -> list[str]:
    """Return the command line that renders a folder, or skip the test."""
    if program := shutil.which("kustomize"):
        return [program, "build"]
    if program := shutil.which("kubectl"):
        return [program, "kustomize"]
    pytest.skip("needs kustomize or kubectl; the files themselves are checked by test_files.py")


@cache
def render(folder: Path) -> Manifests:
    """Return the manifests of a kustomization."""
    done = subprocess.run([*command(), str(folder)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return Manifests([one for one in yaml.safe_load_all(done.stdout) if one])
