"""Build the plugin manager: specs, built-ins, then installed entry points sorted by name.

Built-ins register through the same hooks as anybody's plugin and are loaded by module name,
so that a disabled one is never imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import pluggy

from . import hookspecs
from .core.errors import StorageError

#: Name -> module. The name is what `plugins.disabled` says.
BUILTIN: dict[str, str] = {
    "memory": "gateway.storage.memory",
    "commitlog": "gateway.storage.commitlog",
    "selectors": "gateway.selectors",
    "auth": "gateway.auth.builtin",
    "webhooks": "gateway.webhooks.builtin",
    "transactions": "gateway.transactions",
    "schedules": "gateway.schedules",
    "mqtt": "gateway.protocols.mqtt",
    "amqp": "gateway.protocols.amqp",
    "coap": "gateway.protocols.coap",
    "http": "gateway.protocols.http",
    "openmessaging": "gateway.protocols.openmessaging",
    "deadletters": "gateway.deadletters",
}


class PluginError(Exception):
    """A plugin cannot be used; the text names it."""


def plugin_manager(disabled: Sequence[str] = (), extra: Iterable[object] = ()) -> pluggy.PluginManager:
    """Load every plugin that is not disabled. Raise PluginError naming one that fails or is unknown."""
    installed = sorted(entry_points(group="gateway"), key=lambda entry_point: entry_point.name)
    known = [*BUILTIN, *(entry_point.name for entry_point in installed)]
    for name in disabled:
        if name not in known:
            raise PluginError(f"plugins.disabled: {name!r} is not installed; known: {', '.join(known)}")
    manager = pluggy.PluginManager("gateway")
    manager.add_hookspecs(hookspecs)
    for name, module in BUILTIN.items():
        if name not in disabled:
            manager.register(_instance(import_module(module)), name)
    for entry_point in installed:
        if entry_point.name in disabled:
            continue
        if manager.has_plugin(entry_point.name):
            raise PluginError(f"plugin {entry_point.name!r} ({entry_point.value}): the name is taken")
        try:
            manager.register(_instance(entry_point.load()), entry_point.name)
        except Exception as error:
            raise PluginError(f"plugin {entry_point.name!r} ({entry_point.value}): {error}") from error
    for plugin in extra:
        manager.register(plugin)
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(f"plugin {manager.get_name(error.plugin)!r}: {error}") from error
    return manager


def _instance(found: Any) -> object:
    """Return what has the hooks: a module, or one of the class it calls `plugin`, or one of a class.

    A plugin whose hooks share something has to be made anew for each gateway.
    """
    made: Any = getattr(found, "plugin", found)
    return made() if isinstance(made, type) else found


def call_hook(manager: pluggy.PluginManager, hook: str, **arguments: Any) -> list[tuple[str, Any]]:
    """Call every implementation of a hook, in order of registration; return (plugin, result).

    pluggy calls the last registered first and says nothing of who failed; both matter here.
    """
    implementations = getattr(manager.hook, hook).get_hookimpls()
    return [(found.plugin_name, _call(found, hook, arguments)) for found in implementations]


def tell(manager: pluggy.PluginManager, hook: str, **arguments: Any) -> list[PluginError]:
    """Call every implementation, whatever becomes of the others; return how they failed."""
    errors = []
    for implementation in getattr(manager.hook, hook).get_hookimpls():
        try:
            _call(implementation, hook, arguments)
        except PluginError as error:
            errors.append(error)
    return errors


def _call(implementation: pluggy.HookImpl, hook: str, arguments: Mapping[str, Any]) -> Any:
    try:
        return implementation.function(*(arguments[name] for name in implementation.argnames))
    except Exception as error:
        raise PluginError(f"plugin {implementation.plugin_name!r}: {hook}: {error}") from error


def collect(manager: pluggy.PluginManager, hook: str, **arguments: Any) -> list[Any]:
    """Return what all implementations of a list hook return, in one list."""
    return [item for _, items in call_hook(manager, hook, **arguments) for item in items]


def named(items: Iterable[Any], what: str) -> dict[str, Any]:
    """Return items by their `name`. Two of one name are an error with both classes in it."""
    found: dict[str, Any] = {}
    for item in items:
        if item.name in found:
            both = f"{type(found[item.name]).__module__} and {type(item).__module__}"
            raise PluginError(f"{what} {item.name!r} is offered twice: by {both}; disable one of them")
        found[item.name] = item
    return found


def mapped(manager: pluggy.PluginManager, hook: str, what: str) -> dict[str, Callable[[Any], Any]]:
    """Return what all implementations of a mapping hook return, in one mapping."""
    found: dict[str, tuple[str, Callable[[Any], Any]]] = {}
    for plugin, offered in call_hook(manager, hook):
        by_name: Mapping[str, Callable[[Any], Any]] = offered
        for name, factory in by_name.items():
            if name in found:
                raise PluginError(f"{what} {name!r} is offered by {found[name][0]} and {plugin}")
            found[name] = (plugin, factory)
    return {name: factory for name, (_, factory) in found.items()}


def engine_factory(manager: pluggy.PluginManager, name: str) -> Callable[[Any], Any]:
    """Return the factory of the storage engine of that name."""
    found = mapped(manager, "gateway_storage_engines", "storage engine")
    if name not in found:
        known = ", ".join(sorted(found))
        raise StorageError(f"storage.engine: {name!r} is not installed; known: {known}")
    return found[name]
