"""What the whole installation decides, as opposed to one object: read once from flags and environment.

The environment variables are those of ToolHive's operator, so that its chart's values keep their meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from controllers.shared.timing import Timing

Dialect = Literal["native", "toolhive"]
DIALECTS: tuple[Dialect, ...] = ("native", "toolhive")

OWN_VMCP_IMAGE = "mcp-vmcp"
"""Last path segment of the name of this project's gateway image, whatever registry it was pushed to."""
DEFAULT_VMCP_IMAGE = f"{OWN_VMCP_IMAGE}:latest"
DEFAULT_REDIS_KEY = "redis-password"
DEFAULT_CLUSTER_DOMAIN = "cluster.local"
RESOLV_CONF = Path("/etc/resolv.conf")


_TRUE = frozenset({"1", "t", "T", "true", "True", "TRUE"})
_FALSE = frozenset({"0", "f", "F", "false", "False", "FALSE"})


class OptionsError(ValueError):
    """A flag or environment variable that makes no sense; the message names it."""


@dataclass(frozen=True, slots=True)
class DefaultRedis:
    """The Redis for gateways that do not name their own.

    Attributes:
        address: `host:port`.
        secret_name: Secret with the password; "" for none.
        secret_key: Key in that Secret.
    """

    address: str
    secret_name: str = ""
    secret_key: str = DEFAULT_REDIS_KEY


@dataclass(frozen=True, slots=True)
class OperatorOptions:
    """Options of all controllers.

    Attributes:
        pod_namespace: Where the operator runs (`POD_NAMESPACE`); "" outside of a cluster.
        watch_namespaces: Namespaces that it works in (`WATCH_NAMESPACE`); None for all.
        vmcp_image: Image of gateway pods (`VMCP_IMAGE`).
        vmcp_dialect: Wire dialect towards gateways (`--vmcp-dialect`).
        image_pull_secrets: Added to every pod (`TOOLHIVE_DEFAULT_IMAGE_PULL_SECRETS`).
        redis: Default session store (`TOOLHIVE_DEFAULT_REDIS_ADDR`, `_SECRET_NAME`, `_SECRET_KEY`); None for none.
        cluster_domain: What names of Services end in (`CLUSTER_DOMAIN`); else what the pod's resolver searches.
        openshift: Whether the platform assigns uid, gid and fsGroup itself and refuses others (`OPERATOR_OPENSHIFT`);
            None: the API server is asked.
        restrict_pod_templates: Refuse pod templates and accounts of gateways that could do more than a gateway
            (`--restrict-pod-templates`).
        timing: How soon the controllers follow what others do; no flag sets it.
    """

    pod_namespace: str = ""
    watch_namespaces: tuple[str, ...] | None = None
    vmcp_image: str = DEFAULT_VMCP_IMAGE
    vmcp_dialect: Dialect = "native"
    image_pull_secrets: tuple[str, ...] = ()
    redis: DefaultRedis | None = None
    cluster_domain: str = DEFAULT_CLUSTER_DOMAIN
    openshift: bool | None = None
    restrict_pod_templates: bool = False
    timing: Timing = field(default_factory=Timing)


def read_options(
    environ: Mapping[str, str], dialect: str | None = None, *, resolv_conf: Path = RESOLV_CONF
) -> OperatorOptions:
    """Read the environment.

    Args:
        environ: Environment variables; an empty one counts as unset.
        dialect: `--vmcp-dialect`; None: `native` for this project's own gateway image, else `toolhive`, because
            another image is ToolHive's or behaves like it.
        resolv_conf: Configuration of the resolver, resolv.conf(5).

    Raises:
        OptionsError: A value makes no sense.
    """
    image = environ.get("VMCP_IMAGE") or DEFAULT_VMCP_IMAGE
    if dialect is None:
        dialect = "native" if is_own_image(image) else "toolhive"
    if dialect not in DIALECTS:
        raise OptionsError(f"--vmcp-dialect must be one of {', '.join(DIALECTS)}, not {dialect!r}")
    return OperatorOptions(
        pod_namespace=environ.get("POD_NAMESPACE", ""),
        watch_namespaces=_names(environ, "WATCH_NAMESPACE") or None,
        vmcp_image=image,
        vmcp_dialect=dialect,
        image_pull_secrets=_names(environ, "TOOLHIVE_DEFAULT_IMAGE_PULL_SECRETS"),
        redis=_redis(environ),
        cluster_domain=environ.get("CLUSTER_DOMAIN", "").strip(".") or _searched_domain(resolv_conf),
        openshift=_flag(environ, "OPERATOR_OPENSHIFT"),
    )


def is_own_image(image: str) -> bool:
    """Whether an image reference names this project's gateway, in any registry, with any tag or digest."""
    repository = image.partition("@")[0].rpartition("/")[2]
    return repository.partition(":")[0] == OWN_VMCP_IMAGE


def _redis(environ: Mapping[str, str]) -> DefaultRedis | None:
    address = environ.get("TOOLHIVE_DEFAULT_REDIS_ADDR", "")
    name = environ.get("TOOLHIVE_DEFAULT_REDIS_SECRET_NAME", "")
    if not address:
        if name:
            raise OptionsError("TOOLHIVE_DEFAULT_REDIS_SECRET_NAME is set without TOOLHIVE_DEFAULT_REDIS_ADDR")
        return None
    return DefaultRedis(address, name, environ.get("TOOLHIVE_DEFAULT_REDIS_SECRET_KEY") or DEFAULT_REDIS_KEY)


def _searched_domain(resolv_conf: Path) -> str:
    """The cluster's domain: the kubelet lets pods search `<namespace>.svc.<domain>`, `svc.<domain>` and `<domain>`."""
    try:
        lines = resolv_conf.read_text(errors="replace").splitlines()
    except OSError:
        return DEFAULT_CLUSTER_DOMAIN
    searched = [name for line in lines if (words := line.split())[:1] == ["search"] for name in words[1:]]
    domains = (name.removeprefix("svc.").strip(".") for name in searched if name.startswith("svc."))
    return next((domain for domain in domains if domain), DEFAULT_CLUSTER_DOMAIN)


def _flag(environ: Mapping[str, str], variable: str) -> bool | None:
    """True or false in the spellings of Go's strconv.ParseBool; None when unset."""
    value = environ.get(variable, "")
    if not value:
        return None
    if value not in _TRUE | _FALSE:
        raise OptionsError(f"{variable} must be true or false, not {value!r}")
    return value in _TRUE


def _names(environ: Mapping[str, str], variable: str) -> tuple[str, ...]:
    """A comma list; blanks around names and empty items do not count (ToolHive takes them literally and breaks)."""
    names = (name.strip() for name in environ.get(variable, "").split(","))
    return tuple(dict.fromkeys(name for name in names if name))
