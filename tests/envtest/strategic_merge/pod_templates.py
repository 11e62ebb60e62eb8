"""Random pod templates and patches for them, biased towards collisions: a small vocabulary makes merges meet."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

Json = Any
NAMES = ("a", "b", "c", "d")
KEYED: dict[str, tuple[str, Callable[[Random], dict[str, Json]]]] = {}


def scalar(r: Random) -> Json:
    return r.choice(["x", "y", "z", "1"])


def env(r: Random) -> dict[str, Json]:
    return {"name": r.choice(NAMES), "value": scalar(r)}


def port(r: Random) -> dict[str, Json]:
    return maybe(r, {"containerPort": r.choice([1, 2, 3]), "name": scalar(r), "protocol": r.choice(["TCP", "UDP"])}, 1)


def mount(r: Random) -> dict[str, Json]:
    return {"mountPath": "/" + r.choice(NAMES), "name": r.choice(NAMES), "readOnly": r.random() < 0.5}


def device(r: Random) -> dict[str, Json]:
    return {"devicePath": "/dev/" + r.choice(NAMES), "name": r.choice(NAMES)}


def volume(r: Random) -> dict[str, Json]:
    sources: list[dict[str, Json]] = [
        {"emptyDir": {}},
        {"configMap": {"name": scalar(r), "items": [{"key": scalar(r), "path": scalar(r)}]}},
        {"secret": {"secretName": scalar(r)}},
        {"ephemeral": {"volumeClaimTemplate": {"metadata": {"labels": {scalar(r): scalar(r)}}}}},
    ]
    return {"name": r.choice(NAMES), **r.choice(sources)}


def container(r: Random) -> dict[str, Json]:
    return maybe(
        r,
        {
            "name": r.choice(NAMES),
            "image": scalar(r),
            "args": [scalar(r) for _ in range(r.randint(0, 3))],
            "env": keyed(r, env, "name"),
            "envFrom": [{"prefix": scalar(r)}],
            "ports": keyed(r, port, "containerPort"),
            "volumeMounts": keyed(r, mount, "mountPath"),
            "volumeDevices": keyed(r, device, "devicePath"),
            "resources": {"limits": maybe(r, {"cpu": "1", "memory": scalar(r)}, 0)},
            "securityContext": {"capabilities": {"drop": [scalar(r)]}, "privileged": False},
        },
        1,
    )


def maybe(r: Random, fields: dict[str, Json], keep: int, share: float = 0.6) -> dict[str, Json]:
    """Keep the first `keep` fields and a random part of the others."""
    return {k: v for i, (k, v) in enumerate(fields.items()) if i < keep or r.random() < share}


def keyed(r: Random, make: Callable[[Random], dict[str, Json]], key: str) -> list[dict[str, Json]]:
    elements = {str(e[key]): e for e in (make(r) for _ in range(r.randint(1, 4)))}
    return r.sample(list(elements.values()), len(elements))


def template(r: Random) -> dict[str, Json]:
    metadata = maybe(
        r,
        {
            "labels": {scalar(r): scalar(r)},
            "annotations": {scalar(r): scalar(r)},
            "finalizers": r.sample(NAMES, r.randint(1, 3)),
            "ownerReferences": keyed(r, lambda q: {"uid": q.choice(NAMES), "name": scalar(q)}, "uid"),
        },
        0,
    )
    spec = maybe(
        r,
        {
            "containers": keyed(r, container, "name"),
            "initContainers": keyed(r, container, "name"),
            "ephemeralContainers": keyed(r, container, "name"),
            "volumes": keyed(r, volume, "name"),
            "imagePullSecrets": keyed(r, lambda q: {"name": q.choice(NAMES)}, "name"),
            "hostAliases": keyed(r, lambda q: {"ip": q.choice(NAMES), "hostnames": [scalar(q)]}, "ip"),
            "topologySpreadConstraints": keyed(
                r, lambda q: {"topologyKey": q.choice(NAMES), "maxSkew": q.randint(1, 3)}, "topologyKey"
            ),
            "schedulingGates": keyed(r, lambda q: {"name": q.choice(NAMES)}, "name"),
            "resourceClaims": keyed(r, lambda q: {"name": q.choice(NAMES), "resourceClaimName": scalar(q)}, "name"),
            "tolerations": [{"key": scalar(r), "operator": "Exists"} for _ in range(r.randint(0, 2))],
            "readinessGates": [{"conditionType": scalar(r)}],
            "nodeSelector": {scalar(r): scalar(r)},
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}},
            "securityContext": maybe(
                r, {"runAsUser": r.randint(1, 9), "sysctls": [{"name": scalar(r), "value": scalar(r)}]}, 0
            ),
            "dnsConfig": {"nameservers": [scalar(r)]},
            "serviceAccountName": scalar(r),
        },
        1,
        share=0.5,
    )
    return {"metadata": metadata, "spec": spec}


KEYS = {
    "containers": "name", "initContainers": "name", "ephemeralContainers": "name", "volumes": "name",
    "imagePullSecrets": "name", "hostAliases": "ip", "topologySpreadConstraints": "topologyKey",
    "schedulingGates": "name", "resourceClaims": "name", "env": "name", "ports": "containerPort",
    "volumeMounts": "mountPath", "volumeDevices": "devicePath", "ownerReferences": "uid",
}  # fmt: skip


def with_directives(r: Random, patch: Json, rate: float) -> Json:
    """Sprinkle nulls and directives over a patch."""
    if isinstance(patch, list):
        return [with_directives(r, e, rate) for e in patch]
    if not isinstance(patch, dict):
        return patch
    result: dict[str, Json] = {}
    for field, value in patch.items():
        value = with_directives(r, value, rate)
        if field in KEYS and isinstance(value, list):
            result.update(list_directive(r, field, value, rate))
        elif field == "finalizers" and r.random() < rate:
            result[f"$deleteFromPrimitiveList/{field}"] = value
        elif r.random() < rate / 3 and field not in {"name", *KEYS.values(), "containers"}:
            result[field] = None
        elif isinstance(value, dict) and r.random() < rate / 4 and field != "spec":
            result[field] = {"$patch": r.choice(["replace", "delete"]), **value}
        else:
            result[field] = value
    return result


def list_directive(r: Random, field: str, value: list[Json], rate: float) -> dict[str, Json]:
    key = KEYS[field]
    if r.random() < rate / 3:
        return {field: [*value, {"$patch": "replace"}]}
    elements = [
        {key: e[key], "$patch": "delete"} if r.random() < rate / 2
        else {"$retainKeys": sorted(k for k in e if e[k] is not None), **e}
        if field in {"volumes", "resourceClaims"} and r.random() < rate and not any(k.startswith("$") for k in e)
        else e
        for e in value
    ]  # fmt: skip
    if r.random() < rate / 2:
        kept = [{key: e[key]} for e in elements if "$patch" not in e]
        extra = [{key: n} for n in (NAMES if key != "containerPort" else (1, 2, 3)) if {key: n} not in kept]
        for element in r.sample(extra, r.randint(0, len(extra))):
            kept.insert(r.randint(0, len(kept)), element)
        return {f"$setElementOrder/{field}": kept, field: elements}
    return {field: elements}
