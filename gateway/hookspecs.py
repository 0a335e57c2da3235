# mypy: disable-error-code="empty-body"
"""Every way to extend the gateway.

All hooks are plain functions called once, at start-up, in the order of this file. They
*register* objects; they never see a message. (A pluggy call costs a microsecond even with
no implementation, and pluggy cannot await.) The objects they return implement the
interfaces in `gateway.api`. The built-in protocols, engines and authenticators come in
through these same hooks.

Take only the arguments you need. pluggy gives every plugin the same ones, so a plugin finds
its own settings with `config.plugin("name")`. Return an empty list to sit a run out; raise
to stop the start-up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from pluggy import HookimplMarker, HookspecMarker

if TYPE_CHECKING:
    from .api import (
        Authenticator,
        Authorizer,
        Config,
        Gateway,
        HttpPart,
        Interceptor,
        Limiter,
        Protocol,
        StorageEngine,
    )
    from .core.selector import Compiler

hookspec = HookspecMarker("gateway")
hookimpl = HookimplMarker("gateway")


@hookspec
def gateway_configured(config: Config) -> None:
    """The configuration is read: take what is yours of it. Raise InvalidValue for what makes no sense.

    `gateway check` calls this, too: open nothing.
    """


@hookspec
def gateway_storage_engines() -> Mapping[str, Callable[[Config], StorageEngine]]:
    """Return storage engines by name. `storage.engine` in the configuration picks one.

    Two plugins offering one name is a start-up error that names both.
    """


@hookspec
def gateway_selectors() -> Mapping[str, Compiler]:
    """Return languages of selectors by name, as what makes a text into a predicate of messages.

    Two plugins offering one name is a start-up error that names both.
    """


@hookspec
def gateway_authenticators(config: Config) -> Iterable[Authenticator]:
    """Return authenticators; they are asked in order until one vouches."""


@hookspec
def gateway_authorizers(config: Config) -> Iterable[Authorizer]:
    """Return authorizers; any refusal wins, silence of all is a refusal."""


@hookspec
def gateway_limiters(config: Config) -> Iterable[Limiter]:
    """Return limiters, which say what a user or client may take of what all share; all of it holds."""


@hookspec
def gateway_interceptors(config: Config) -> Iterable[Interceptor]:
    """Return interceptors, which may change or drop messages on publish.

    They run in registration order inside the broker's critical path: no I/O, no waiting.
    """


@hookspec
def gateway_protocols(config: Config) -> Iterable[Protocol]:
    """Return protocols. The gateway opens a door for each that has an address.

    The address comes from `listeners.<name>`; the protocol's own is only the default.
    """


@hookspec
def gateway_recovered(gateway: Gateway) -> None:
    """The log is recovered, doors are about to open. What is kept in the metadata store can be read."""


@hookspec
def gateway_http_parts(gateway: Gateway) -> Iterable[HttpPart]:
    """Return parts of the HTTP door: APIs below paths of their own. Called once, after recovery."""


@hookspec
def gateway_started(gateway: Gateway) -> None:
    """All doors are open. May schedule tasks."""


@hookspec
def gateway_stopping(gateway: Gateway) -> None:
    """The doors are closed and every session has ended; the log is still open."""
