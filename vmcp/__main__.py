"""`python -m vmcp`: serve a configuration, as a gateway or as a proxy, or only check it.

| exit code | meaning |
|---|---|
| 0 | done: the configuration is valid (`validate`), or the program was asked to end and did (`serve`, `proxy`) |
| 1 | it could not start: the address is taken or not ours |
| 2 | the command line is wrong |
| 3 | the configuration is wrong; every mistake is on standard error, one per line |
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from api.contract.errors import ConfigError, ConfigErrors
from api.contract.identifiers import GATEWAY_PORT, NAME_ENV, NAMESPACE_ENV
from api.contract.lifetime import GRACE_PERIOD_ENV
from vmcp.config.load import Loaded, is_discovered, load, load_file, load_proxy
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
from vmcp.kube.identity import read_identity
from vmcp.observe import logs
from vmcp.observe.redact import Redactor

EXIT_START = 1
EXIT_USAGE = 2
EXIT_CONFIG = 3
_NO_API_SERVER = (
    "a gateway that discovers its backends needs an API server: run it in a pod with a ServiceAccount's token, or set "
    f"KUBECONFIG, and set {NAME_ENV} and {NAMESPACE_ENV}"
)

log = structlog.get_logger("vmcp")


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    top = argparse.ArgumentParser(prog="vmcp", description="One MCP endpoint in front of many MCP servers, or of one.")
    commands = top.add_subparsers(dest="command", required=True)
    serve = commands.add_parser(
        "serve",
        help="run the gateway",
        epilog=f"With {NAME_ENV}, {NAMESPACE_ENV} and a ServiceAccount's token or KUBECONFIG, the gateway follows "
        "its ConfigMap, and in discovered mode its group, through the API server. The file is the start-up copy then, "
        "and may be left out.",
    )
    proxy = commands.add_parser(
        "proxy",
        help="run a proxy: one remote server that shows through, behind authentication, policies and an audit log",
        epilog="The file is watched; a changed one is swapped in without a restart.",
    )
    validate = commands.add_parser("validate", help="check a configuration and exit 0 or 3")
    validate.add_argument("--proxy", action="store_true", help="the file is a proxy's")
    for command in (serve, proxy, validate):
        command.add_argument(
            "--config", "-c", type=Path, required=command is not serve, metavar="F", help="configuration file (YAML)"
        )
        command.add_argument("--debug", action="store_true", help="log at debug level")
        if command is not proxy:
            command.add_argument(
                "--max-name-length",
                metavar="N",
                help=f"shorten longer names of tools and prompts to N characters (some take {COMMON_LIMIT}); "
                f"{MAX_NAME_ENV}=N does the same",
            )
        command.add_argument(
            "--root",
            default="",
            metavar="DIR",
            help="look up the configuration's CA bundles below DIR, to run a pod's configuration outside of a pod",
        )
    _add_serving(serve)
    _add_serving(proxy)
    return top


def _add_serving(serve: argparse.ArgumentParser) -> None:
    """Add what a program that serves can be told, gateway or proxy."""
    serve.add_argument("--host", default=DEFAULT_HOST, metavar="H", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=_port, default=GATEWAY_PORT, metavar="P", help="port (default: %(default)s)")
    serve.add_argument(
        "--service-port",
        type=_port,
        metavar="P",
        help="serve /status, /metrics and /api/backends/health on this port and no longer beside MCP",
    )
    serve.add_argument(
        "--resolve",
        action="append",
        default=[],
        metavar="HOST:PORT:ADDRESS",
        help="use ADDRESS for connections to HOST:PORT, as curl does; may be given more than once",
    )
    serve.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="let pages of ORIGIN (http(s)://HOST[:PORT]) call; may be given more than once; "
        f"the comma list {ORIGINS_ENV} adds to it",
    )
    serve.add_argument(
        "--allow-network",
        action="append",
        default=[],
        metavar="CIDR",
        help="let the names of backends lead to CIDR although loopback, link-local and metadata addresses are refused, "
        "and those of token endpoints, where private addresses are refused, too; "
        f"may be given more than once; the comma list {NETWORKS_ENV} adds to it",
    )
    serve.add_argument(
        "--separate-anonymous",
        action="store_true",
        help="give each request of an anonymous modern client sessions with backends of its own; "
        f"{SEPARATE_ANONYMOUS_ENV}=true does the same",
    )
    serve.add_argument(
        "--allow-http-token-url",
        action="store_true",
        help="let token endpoints be asked without TLS; callers' tokens can be read on the way then; "
        f"{HTTP_TOKENS_ENV}=true does the same",
    )
    serve.add_argument(
        "--opaque-tokens",
        action="append",
        default=[],
        metavar="TOKEN_URL=HOW",
        help="use opaque tokens of TOKEN_URL although an audience is configured; HOW is the URL of the introspection "
        "endpoint that says for whom they are good, or 'none': nobody checks; may be given more than once; "
        f"the comma list {OPAQUE_TOKENS_ENV} adds to it",
    )


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError("must be a port, 0 to 65535")
    return int(text)


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Run a command and return its exit code; mistakes in the command line end the process with 2."""
    commands = parser()
    arguments = commands.parse_args(argv)
    logs.configure(debug=arguments.debug)
    if getattr(arguments, "max_name_length", None) is not None:
        environ = {**environ, MAX_NAME_ENV: arguments.max_name_length}
    if arguments.config is None and read_identity(environ) is None:
        commands.error(f"--config is required without an API server and {NAME_ENV} and {NAMESPACE_ENV}")
    try:
        proxy = arguments.command == "proxy" or getattr(arguments, "proxy", False)
        root = arguments.root.rstrip("/")
        loaded = _loaded(arguments.config, environ, debug=arguments.debug, root=root, proxy=proxy)
        if arguments.command == "serve" and is_discovered(loaded.source) and read_identity(environ) is None:
            raise ConfigErrors([ConfigError("outgoingAuth.source", _NO_API_SERVER)])
    except ConfigErrors as errors:
        return _refused(arguments.config, errors)
    logs.set_secrets(Redactor(loaded.settings.secrets))
    if arguments.command == "validate":
        return _validated(arguments.config, loaded)
    try:
        resolve = parse_resolve(arguments.resolve)
    except ValueError as error:
        commands.error(f"--resolve: {error}")
    try:
        origins = parse_origins([*arguments.allow_origin, *environ.get(ORIGINS_ENV, "").split(",")])
    except ValueError as error:
        commands.error(f"--allow-origin or {ORIGINS_ENV}: {error}")
    try:
        networks = parse_networks([*arguments.allow_network, *environ.get(NETWORKS_ENV, "").split(",")])
    except ValueError as error:
        commands.error(f"--allow-network or {NETWORKS_ENV}: {error}")
    try:
        opaque = parse_opaque_tokens([*arguments.opaque_tokens, *environ.get(OPAQUE_TOKENS_ENV, "").split(",")])
    except ValueError as error:
        commands.error(f"--opaque-tokens or {OPAQUE_TOKENS_ENV}: {error}")
    try:
        ending = divide(environ.get(GRACE_PERIOD_ENV, ""), balanced=not is_loopback(arguments.host))
    except ValueError as error:
        commands.error(f"{GRACE_PERIOD_ENV}: {error}")
    options = ServeOptions(
        config=arguments.config,
        host=arguments.host,
        port=arguments.port,
        service_port=arguments.service_port,
        debug=arguments.debug,
        resolve=resolve,
        root=root,
        proxy=proxy,
        allowed_origins=origins,
        allowed_networks=networks,
        separate_anonymous=arguments.separate_anonymous or environ.get(SEPARATE_ANONYMOUS_ENV, "") == "true",
        allow_http_tokens=arguments.allow_http_token_url or environ.get(HTTP_TOKENS_ENV, "") == "true",
        opaque_tokens=opaque,
        ending=ending,
    )
    return _served(options, loaded, dict(environ))


def _loaded(path: Path | None, environ: Mapping[str, str], *, debug: bool, root: str, proxy: bool) -> Loaded:
    """Load the configuration to start with: the file, or where none is given the ConfigMap of a gateway."""
    if path is not None:
        return load_file(path, environ, debug=debug, root=root, read=load_proxy if proxy else load)
    from vmcp.kube.connection import ConfigurationError
    from vmcp.kube.source import first_document

    identity = read_identity(environ)
    assert identity is not None, "checked before"
    try:
        return load(asyncio.run(first_document(identity, environ)), environ, debug=debug, root=root)
    except ConfigurationError as error:
        raise ConfigErrors([ConfigError("", str(error))]) from None


def _refused(path: Path | None, errors: ConfigErrors) -> int:
    print(f"{path or 'the ConfigMap'}: {errors}", file=sys.stderr)  # noqa: T201  the command's answer, not a log line
    return EXIT_CONFIG


def _validated(path: Path, loaded: Loaded) -> int:
    for warning in loaded.settings.warnings:
        print(f"{path}: warning: {warning}", file=sys.stderr)  # noqa: T201  the command's answer
    settings = loaded.settings
    if settings.left_out:
        errors = ConfigErrors(error for one in settings.left_out for error in one.errors)
        names = ", ".join(one.name for one in settings.left_out)
        print(f"{path}: {errors}\n`serve` leaves out: {names}", file=sys.stderr)  # noqa: T201  the command's answer
        return EXIT_CONFIG
    what = f"{len(settings.backends)} backends" if settings.proxy is None else f"proxy of {settings.backends[0].url}"
    print(f"{path}: valid: {settings.name}, {what}, digest {loaded.digest}")  # noqa: T201
    return 0


def _served(options: ServeOptions, loaded: Loaded, environ: Mapping[str, str]) -> int:
    import uvloop

    from vmcp.run import run

    logs.configure(debug=options.debug or loaded.settings.debug)
    for warning in loaded.settings.warnings:
        log.warning("configuration", warning=warning)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(options, loaded, environ))
    except ConfigErrors as errors:
        return _refused(options.config, errors)
    except OSError as error:
        log.error("cannot start", host=options.host, port=options.port, error=str(error))  # noqa: TRY400
        return EXIT_START
    return 0


if __name__ == "__main__":
    sys.exit(main())
