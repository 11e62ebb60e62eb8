"""The command line: its flags, and what they and the variables beside them make of a gateway or a proxy."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from api.contract.identifiers import GATEWAY_PORT, NAME_ENV, NAMESPACE_ENV
from api.contract.lifetime import GRACE_PERIOD_ENV
from vmcp.config.options import (
    DEFAULT_HOST,
    HTTP_TOKENS_ENV,
    MAX_NAME_ENV,
    NETWORKS_ENV,
    OPAQUE_TOKENS_ENV,
    ORIGINS_ENV,
    SEPARATE_ANONYMOUS_ENV,
    ServeOptions,
    is_loopback,
    parse_networks,
    parse_opaque_tokens,
    parse_origins,
    parse_resolve,
)
from vmcp.core.naming import COMMON_LIMIT
from vmcp.ending import divide

Given = TypeVar("Given")
Read = TypeVar("Read")


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line, with a command each for serving and one for checking a configuration."""
    top = argparse.ArgumentParser(prog="vmcp", description="One MCP endpoint in front of many MCP servers, or of one.")
    commands = top.add_subparsers(dest="command", required=True)
    serve = commands.add_parser(
        "serve",
        help="run the gateway",
        epilog=f"With {NAME_ENV}, {NAMESPACE_ENV} and a ServiceAccount's token or KUBECONFIG, the gateway follows "
        "its ConfigMap, and in discovered mode its group, through the API server. The file is then only the start-up "
        "copy and may be omitted.",
    )
    proxy = commands.add_parser(
        "proxy",
        help="run a transparent proxy: one remote server behind authentication, policies and an audit log",
        epilog="The file is watched; changes are applied without a restart.",
    )
    validate = commands.add_parser("validate", help="check a configuration and exit 0 or 3")
    validate.add_argument("--proxy", action="store_true", help="the file configures a proxy")
    _add_configuration(serve, required=False, names=True)
    _add_configuration(proxy, required=True, names=False)
    _add_configuration(validate, required=True, names=True)
    for command in (serve, proxy):
        _add_listeners(command)
        _add_permissions(command)
    return top


def _add_configuration(command: argparse.ArgumentParser, *, required: bool, names: bool) -> None:
    """Add what says which configuration is read and how; `names` = it may say how names are made."""
    command.add_argument("--config", "-c", type=Path, required=required, metavar="F", help="configuration file (YAML)")
    command.add_argument("--debug", action="store_true", help="log at debug level")
    if names:
        command.add_argument(
            "--max-name-length",
            metavar="N",
            help=f"shorten names of tools and prompts beyond N characters (some clients accept {COMMON_LIMIT}); "
            f"{MAX_NAME_ENV}=N does the same",
        )
    command.add_argument(
        "--root",
        default="",
        metavar="DIR",
        help="look up the configuration's CA bundles below DIR, to run a pod's configuration outside of a pod",
    )


def _add_listeners(serve: argparse.ArgumentParser) -> None:
    serve.add_argument("--host", default=DEFAULT_HOST, metavar="H", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=_port, default=GATEWAY_PORT, metavar="P", help="port (default: %(default)s)")
    serve.add_argument(
        "--service-port",
        type=_port,
        metavar="P",
        help="serve /status, /metrics and /api/backends/health on this port instead of the MCP port",
    )
    serve.add_argument(
        "--resolve",
        action="append",
        default=[],
        metavar="HOST:PORT:ADDRESS",
        help="connect to ADDRESS instead of HOST:PORT, like curl's option; repeatable",
    )


def _add_permissions(serve: argparse.ArgumentParser) -> None:
    """Add what a user may allow, although the gateway refuses it by default."""
    serve.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="allow browser requests from ORIGIN (http(s)://HOST[:PORT]); repeatable; "
        f"the comma-separated list in {ORIGINS_ENV} adds to it",
    )
    serve.add_argument(
        "--allow-network",
        action="append",
        default=[],
        metavar="CIDR",
        help="allow host names to resolve to addresses in CIDR that are otherwise refused: for backends loopback, "
        "link-local and metadata addresses, for token endpoints private addresses as well; "
        f"repeatable; the comma-separated list in {NETWORKS_ENV} adds to it",
    )
    serve.add_argument(
        "--separate-anonymous",
        action="store_true",
        help="give each request from an anonymous modern client separate backend sessions; "
        f"{SEPARATE_ANONYMOUS_ENV}=true does the same",
    )
    serve.add_argument(
        "--allow-http-token-url",
        action="store_true",
        help="allow token endpoints without TLS; callers' tokens can then be read in transit; "
        f"{HTTP_TOKENS_ENV}=true does the same",
    )
    serve.add_argument(
        "--opaque-tokens",
        action="append",
        default=[],
        metavar="TOKEN_URL=HOW",
        help="accept opaque tokens from TOKEN_URL even though an audience is configured; HOW is the URL of the "
        "introspection endpoint that reports their audience, or 'none' for no check; repeatable; "
        f"the comma-separated list in {OPAQUE_TOKENS_ENV} adds to it",
    )


def serve_options(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ServeOptions:
    """Read what `serve` or `proxy` was asked for. A comma list in a variable adds to the flags that it stands beside.

    Raises:
        ValueError: A value cannot be used; the text names the flag or the variable, and says why.
    """
    return ServeOptions(
        config=arguments.config,
        host=arguments.host,
        port=arguments.port,
        service_port=arguments.service_port,
        debug=arguments.debug,
        resolve=_read("--resolve", parse_resolve, arguments.resolve),
        root=root_of(arguments),
        proxy=is_proxy(arguments),
        allowed_origins=_read_list("--allow-origin", ORIGINS_ENV, parse_origins, arguments.allow_origin, environ),
        allowed_networks=_read_list("--allow-network", NETWORKS_ENV, parse_networks, arguments.allow_network, environ),
        separate_anonymous=arguments.separate_anonymous or environ.get(SEPARATE_ANONYMOUS_ENV, "") == "true",
        allow_http_tokens=arguments.allow_http_token_url or environ.get(HTTP_TOKENS_ENV, "") == "true",
        opaque_tokens=_read_list(
            "--opaque-tokens", OPAQUE_TOKENS_ENV, parse_opaque_tokens, arguments.opaque_tokens, environ
        ),
        ending=_read(
            GRACE_PERIOD_ENV,
            lambda period: divide(period, balanced=not is_loopback(arguments.host)),
            environ.get(GRACE_PERIOD_ENV, ""),
        ),
    )


def is_proxy(arguments: argparse.Namespace) -> bool:
    """Say whether the configuration is a proxy's, whether it is to be served or only checked."""
    return arguments.command == "proxy" or getattr(arguments, "proxy", False)


def root_of(arguments: argparse.Namespace) -> str:
    """Return what goes before absolute paths of CA bundles; empty = nothing."""
    root: str = arguments.root
    return root.rstrip("/")


def _read(source: str, parse: Callable[[Given], Read], given: Given) -> Read:
    try:
        return parse(given)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def _read_list(
    flag: str,
    variable: str,
    parse: Callable[[Sequence[str]], Read],
    values: Sequence[str],
    environ: Mapping[str, str],
) -> Read:
    return _read(f"{flag} or {variable}", parse, [*values, *environ.get(variable, "").split(",")])


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError("must be a port, 0 to 65535")
    return int(text)
