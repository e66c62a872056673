"""The schemas of the Kubernetes API, strict: a field that the API does not know is an error."""

import kubernetes_validate

from .manifests import Manifest

# The oldest version for which the manifests are meant, and a newer one.
VERSIONS = ("1.32", "1.35")
# Resources of operators. kubernetes-validate has no schemas for them.
OF_OPERATORS = {
    "barmancloud.cnpg.io/v1",
    "external-secrets.io/v1",
    "kafka.strimzi.io/v1",
    "keda.sh/v1alpha1",
    "monitoring.coreos.com/v1",
    "postgresql.cnpg.io/v1",
}


def violations(manifest: Manifest) -> list[str]:
    """Return what is wrong with a manifest of the Kubernetes API."""
    if manifest["apiVersion"] in OF_OPERATORS:
        return []
    found = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            found.append(f"{version}: {error}")
    return found
