"""`python -m vmcp`: serve a configuration, as a gateway or as a proxy, or only check it.

| exit code | meaning |
|---|---|
| 0 | done: the configuration is valid (`validate`), or the program was asked to end and did (`serve`, `proxy`) |
| 1 | it could not start: the address is in use or not local |
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
from api.contract.identifiers import NAME_ENV, NAMESPACE_ENV
from vmcp.command import is_proxy, parser, root_of, serve_options
from vmcp.config.load import Loaded, is_discovered, load, load_file, load_proxy
from vmcp.config.options import MAX_NAME_ENV, ServeOptions
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


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Run a command and return its exit code; mistakes in the command line end the process with 2."""
    commands = parser()
    arguments = commands.parse_args(argv)
    logs.configure(debug=arguments.debug)
    if getattr(arguments, "max_name_length", None) is not None:
        environ = {**environ, MAX_NAME_ENV: arguments.max_name_length}
    if arguments.config is None and read_identity(environ) is None:
        commands.error(f"--config is required unless an API server, {NAME_ENV} and {NAMESPACE_ENV} are configured")
    try:
        loaded = _loaded(arguments, environ)
        if arguments.command == "serve" and is_discovered(loaded.source) and read_identity(environ) is None:
            raise ConfigErrors([ConfigError("outgoingAuth.source", _NO_API_SERVER)])
    except ConfigErrors as errors:
        return _refused(arguments.config, errors)
    logs.set_secrets(Redactor(loaded.settings.secrets))
    if arguments.command == "validate":
        return _validated(arguments.config, loaded)
    try:
        options = serve_options(arguments, environ)
    except ValueError as error:
        commands.error(str(error))
    return _served(options, loaded, dict(environ))


def _loaded(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Loaded:
    """Load the configuration to start with: the file, or where none is given the ConfigMap of a gateway."""
    debug, root = arguments.debug, root_of(arguments)
    if arguments.config is not None:
        read = load_proxy if is_proxy(arguments) else load
        return load_file(arguments.config, environ, debug=debug, root=root, read=read)
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
    count = len(settings.backends)
    backends = "1 backend" if count == 1 else f"{count} backends"
    what = backends if settings.proxy is None else f"proxy of {settings.backends[0].url}"
    print(f"{path}: valid: {settings.name}, {what}, digest {loaded.digest}")  # noqa: T201
    return 0


def _served(options: ServeOptions, loaded: Loaded, environ: Mapping[str, str]) -> int:
    import uvloop

    from vmcp import allocator
    from vmcp.run import run

    allocator.settle()
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
