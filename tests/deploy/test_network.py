"""Who reaches whom, by the rendered NetworkPolicies: only the gateway is reachable from outside."""

from dataclasses import dataclass
from typing import Any

from .manifests import RUNNING, STORES, Manifest, Manifests


@dataclass(frozen=True)
class End:
    """A pod, or a whole namespace other than ours. `ports` are those on which it listens, by name."""

    name: str
    namespace: str
    labels: dict[str, str]
    ports: dict[str, int]


def matches(selector: Manifest, labels: dict[str, str]) -> bool:
    rules = {"In": True, "NotIn": False}
    for one in selector.get("matchExpressions", []):
        if one["operator"] == "Exists":
            if one["key"] not in labels:
                return False
        elif (labels.get(one["key"]) in one["values"]) is not rules[one["operator"]]:
            return False
    return selector.get("matchLabels", {}).items() <= labels.items()


def is_peer(peer: Manifest, end: End) -> bool:
    if "ipBlock" in peer:
        return end.namespace == "internet"
    if "namespaceSelector" in peer:
        is_there = matches(peer["namespaceSelector"], {"kubernetes.io/metadata.name": end.namespace})
        return is_there and matches(peer.get("podSelector", {}), end.labels)
    return end.namespace == "cooee" and matches(peer["podSelector"], end.labels)


def allows(rule: Manifest, peers: str, other: End, port: int, names: dict[str, int]) -> bool:
    is_port = "ports" not in rule or any(names.get(one["port"], one["port"]) == port for one in rule["ports"])
    return is_port and (peers not in rule or any(is_peer(peer, other) for peer in rule[peers]))


def reaches(policies: list[Manifest], source: End, target: End, port: int) -> bool:
    """Return whether the policies let a connection through. Without a policy for it, a pod accepts everything."""
    for direction, kind, peers, own, other in (
        ("egress", "Egress", "to", source, target),
        ("ingress", "Ingress", "from", target, source),
    ):
        if own.namespace != "cooee" or (kind == "Ingress" and "strimzi.io/cluster" in own.labels):
            continue  # Strimzi makes the policy of the Kafka pods
        valid = [one["spec"] for one in policies if kind in one["spec"]["policyTypes"]]
        valid = [one for one in valid if matches(one["podSelector"], own.labels)]
        rules = [rule for one in valid for rule in one.get(direction, [])]
        if valid and not any(allows(rule, peers, other, port, target.ports) for rule in rules):
            return False
    return True


def ends(manifests: Manifests) -> dict[str, End]:
    """Return our pods, and those that operators make of our manifests."""
    found = {pod.name: End(pod.name, "cooee", pod.labels, pod.ports) for pod in manifests.pods()}
    for name in manifests.named("Cluster"):
        found[name] = End(name, "cooee", {"cnpg.io/cluster": name}, {"postgres": 5432, "status": 8000})
    labels = {"strimzi.io/cluster": "cooee", "strimzi.io/kind": "Kafka"}
    return found | {"kafka": End("kafka", "cooee", labels, {"tls": 9093})}


def outside(namespace: str) -> End:
    return End(namespace, namespace, {"app": "any"}, {"https": 443})


def reached(manifests: Manifests, source: End) -> set[tuple[str, str]]:
    """Return the pods that a source reaches, with the name of the port."""
    policies = manifests.of("NetworkPolicy")
    return {
        (name, port)
        for name, target in ends(manifests).items()
        for port, number in target.ports.items()
        if name != source.name and reaches(policies, source, target, number)
    }


def test_from_outside_only_what_has_a_host_is_reached(manifests: Manifests) -> None:
    for namespace in ("default", "keda", "kube-system", "internet"):
        assert reached(manifests, outside(namespace)) - {("kafka", "tls")} == set(), namespace
    # An overlay may have the component with a host of the page.
    hosts = {"gateway": ("gateway-api", "http"), "operators-page": ("operators-page", "http")}
    expected = {hosts[name] for name in manifests.named("Ingress")}
    assert reached(manifests, outside("traefik")) - {("kafka", "tls")} == expected


def test_prometheus_and_the_database_operator_reach_what_they_ask(manifests: Manifests) -> None:
    services = {(f"{service}-{role}", "http") for service in STORES for role in RUNNING}
    assert reached(manifests, outside("monitoring")) - {("kafka", "tls")} == {
        *services,
        ("gateway-api", "metrics"),
    }
    databases = {(f"{service}-db", port) for service in STORES for port in ("postgres", "status")}
    assert reached(manifests, outside("cnpg-system")) - {("kafka", "tls")} == databases


def test_only_keda_and_clients_with_a_certificate_reach_kafka(manifests: Manifests) -> None:
    (kafka,) = manifests.of("Kafka")
    (listener,) = kafka["spec"]["kafka"]["listeners"]
    assert listener["authentication"] == {"type": "tls"}
    peers = listener["networkPolicyPeers"]
    allowed = {pod.name for pod in manifests.pods() if any(is_peer(peer, ends(manifests)[pod.name]) for peer in peers)}
    assert allowed == {"contacts-worker", "scheduling-worker", "delivery-worker", "delivery-api"}
    assert [name for name in ("default", "keda", "traefik") if any(is_peer(one, outside(name)) for one in peers)] == [
        "keda"
    ]


def test_each_pod_reaches_its_database_the_other_services_and_kafka_and_nothing_else(manifests: Manifests) -> None:
    apis = {(f"{service}-api", "http") for service in STORES}
    expected: dict[str, set[tuple[str, str]]] = {
        "gateway-api": apis | {(f"{service}-worker", "http") for service in STORES} | {("valkey", "valkey")},
        "valkey": set(),
        "operator": {(f"{service}-db", "postgres") for service in STORES} | {("gateway-api", "http")},
    }
    expected["operators-page"] = expected["operator"]
    for service in STORES:
        own = {(f"{service}-db", "postgres")}
        expected[f"{service}-migrate"] = own
        expected[f"{service}-api"] = own | apis - {(f"{service}-api", "http")}
        expected[f"{service}-worker"] = own | apis | {("kafka", "tls")}
    expected["delivery-api"] |= {("kafka", "tls")}
    found = {pod.name: reached(manifests, ends(manifests)[pod.name]) for pod in manifests.pods()}
    assert found == expected


def test_who_needs_the_internet_reaches_it(manifests: Manifests) -> None:
    policies = manifests.of("NetworkPolicy")
    allowed = {
        pod.name for pod in manifests.pods() if reaches(policies, ends(manifests)[pod.name], outside("internet"), 443)
    }
    assert allowed == {"gateway-api", "delivery-api", "delivery-worker", "operator", "operators-page"}


def test_public_addresses_do_not_include_private_ones(manifests: Manifests) -> None:
    blocks: list[Any] = [
        peer["ipBlock"]
        for one in manifests.of("NetworkPolicy")
        for rule in one["spec"].get("egress", [])
        for peer in rule.get("to", [])
        if "ipBlock" in peer
    ]
    assert blocks
    private = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"}
    assert all(private <= set(block["except"]) for block in blocks)
