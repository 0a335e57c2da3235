"""Plugins: every hook is called, with its argument, in order; who fails is named, who is disabled absent."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway import hookspecs, plugins
from gateway.api import Action, Authenticator, Credentials, Interceptor, Origin, Principal, Ruling
from gateway.config import Config, ConfigError, load
from gateway.core.errors import NotAuthorized, StorageError
from gateway.core.message import Message
from gateway.hookspecs import hookimpl
from gateway.plugins import BUILTIN, PluginError, call_hook, collect, engine_factory, named, plugin_manager
from gateway.server import Server
from gateway.storage.memory import MemoryEngine

HOOKS = [name for name in vars(hookspecs) if name.startswith("gateway_")]
CLOSED = ("listeners.mqtt=", "listeners.http=", "listeners.line=")


def config(tmp_path: Path, *sets: str) -> Config:
    """No door is open, nothing is written; the door `line` may or may not be installed."""
    have = plugins.collect(plugin_manager(), "gateway_protocols", config=load(None, [], True, tmp_path))
    names = {protocol.name for protocol in have}
    closed = [text for text in CLOSED if text.split(".")[1].rstrip("=") in names]
    return load(None, [*closed, "storage.engine=memory", *sets], True, tmp_path)


class Plugin:
    """Any object will do."""


def plugin(**hooks: Callable[..., Any]) -> Plugin:
    """Return a plugin of these hook implementations."""
    made = Plugin()
    for name, function in hooks.items():
        setattr(made, name, hookimpl(function))
    return made


def recorder(hook: str, seen: list[tuple[str, Any]], answer: Any = ()) -> Plugin:
    """Return a plugin that notes how one hook is called."""
    if hook in ("gateway_storage_engines", "gateway_selectors"):
        return plugin(**{hook: lambda: seen.append((hook, None)) or {}})
    if "gateway" in inspect.signature(getattr(hookspecs, hook)).parameters:
        return plugin(**{hook: lambda gateway: seen.append((hook, gateway)) or ()})
    return plugin(**{hook: lambda config: seen.append((hook, config)) or answer})


async def run(server: Server) -> None:
    await server.start()
    await server.stop()


def test_these_are_the_hooks_in_the_order_of_their_calls() -> None:
    assert HOOKS == [
        "gateway_configured",
        "gateway_storage_engines",
        "gateway_selectors",
        "gateway_authenticators",
        "gateway_authorizers",
        "gateway_limiters",
        "gateway_interceptors",
        "gateway_protocols",
        "gateway_recovered",
        "gateway_http_parts",
        "gateway_started",
        "gateway_stopping",
    ]


@pytest.mark.parametrize("hook", HOOKS)
async def test_a_hook_is_called_once_with_its_argument(hook: str, tmp_path: Path) -> None:
    seen: list[tuple[str, Any]] = []
    settings = config(tmp_path)
    server = Server(settings, [recorder(hook, seen)])
    await run(server)
    arguments = list(inspect.signature(getattr(hookspecs, hook)).parameters)
    expected: dict[str, Any] = {"config": settings, "gateway": server}
    assert seen == [(hook, expected[arguments[0]] if arguments else None)]


@pytest.mark.parametrize("hook", HOOKS)
async def test_a_plugin_takes_only_the_arguments_it_needs(hook: str, tmp_path: Path) -> None:
    called: list[str] = []
    await run(Server(config(tmp_path), [plugin(**{hook: lambda: called.append(hook) or {}})]))
    assert called == [hook]


@pytest.mark.parametrize("hook", HOOKS[:8])
def test_a_registration_that_raises_stops_the_start_and_names_plugin_and_hook(
    hook: str, tmp_path: Path
) -> None:
    manager = plugin_manager()
    manager.register(plugin(**{hook: lambda: 1 / 0}), "broken")
    with pytest.raises(PluginError, match=f"plugin 'broken': {hook}: division by zero") as failed:
        call_hook(manager, hook, config=config(tmp_path))
    assert isinstance(failed.value.__cause__, ZeroDivisionError)
    with pytest.raises(PluginError, match=f"{hook}: division by zero"):
        Server(config(tmp_path), [plugin(**{hook: lambda: 1 / 0})])


class Recorded(MemoryEngine):
    """An engine that tells whether it was closed."""

    closed = 0

    def close(self) -> None:
        self.closed += 1


def recorded(engine: Recorded) -> Plugin:
    return plugin(gateway_storage_engines=lambda: {"recorded": lambda config: engine})


async def test_a_plugin_that_fails_after_the_start_is_named_and_the_log_is_closed(tmp_path: Path) -> None:
    engine = Recorded()
    settings = config(tmp_path, "storage.engine=recorded")
    server = Server(settings, [recorded(engine), plugin(gateway_started=lambda: 1 / 0)])
    with pytest.raises(PluginError, match="gateway_started: division by zero"):
        await server.start()
    await server.stop()
    assert engine.closed == 1


async def test_a_plugin_that_fails_in_the_end_is_reported_and_nobody_is_kept_from_stopping(
    tmp_path: Path,
) -> None:
    engine, seen = Recorded(), []
    settings = config(tmp_path, "storage.engine=recorded")
    failing = plugin(gateway_stopping=lambda: 1 / 0)
    server = Server(settings, [recorded(engine), failing, recorder("gateway_stopping", seen)])
    with capture_logs() as logs:
        await run(server)
    assert seen == [("gateway_stopping", server)]
    assert engine.closed == 1
    assert [(line["event"], str(line["exc_info"])) for line in logs] == [
        ("bug: a plugin failed", f"plugin '{id(failing)}': gateway_stopping: division by zero")
    ]


async def test_what_hooks_return_is_used(tmp_path: Path) -> None:
    """An authenticator, an authorizer and an interceptor, each from its hook."""

    class Door(Authenticator):
        async def authenticate(self, credentials: Credentials) -> Principal | None:
            return Principal("from the plugin") if credentials.username == "p" else None

    class OnlyPublish:
        def authorize(
            self, principal: Principal, origin: Origin, action: Action, resource: str
        ) -> Ruling | None:
            return Ruling(action is Action.PUBLISH)

    class Upper(Interceptor):
        def on_publish(self, message: Message, session: Any) -> Message | None:
            return Message(message.topic, message.body.upper(), message.qos, message.retain)

    mine = plugin(
        gateway_authenticators=lambda: [Door()],
        gateway_authorizers=lambda: [OnlyPublish()],
        gateway_interceptors=lambda: [Upper()],
    )
    server = Server(config(tmp_path, "plugins.disabled=['auth']"), [mine])
    await server.start()
    session = await server.connect(Credentials("test", username="p"))
    assert session.principal.name == "from the plugin"
    session.publish(Message("t", b"quiet", 0, True))
    with pytest.raises(NotAuthorized):
        session.check(Action.SUBSCRIBE, "t")
    kept = server.broker.retained.get("t")
    session.close()
    await server.stop()
    assert kept is not None
    assert kept.body == b"QUIET"


def test_implementations_are_called_in_the_order_of_registration() -> None:
    manager = plugin_manager()
    for name in ("first", "second", "third"):
        manager.register(plugin(gateway_interceptors=lambda name=name: [name]), name)
    assert collect(manager, "gateway_interceptors", config=None) == ["first", "second", "third"]


@pytest.mark.parametrize("name", BUILTIN)
def test_a_disabled_plugin_is_not_registered_the_others_are(name: str) -> None:
    manager = plugin_manager([name])
    assert not manager.has_plugin(name)
    assert all(manager.has_plugin(other) for other in BUILTIN if other != name)


def test_a_disabled_plugin_is_not_even_imported() -> None:
    code = (
        "import sys; from gateway.plugins import plugin_manager; plugin_manager(['http', 'commitlog'], ());"
        "print([n for n in sys.modules if n.startswith(('gateway.protocols.http', 'gateway.storage.c'))])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_disabling_what_is_not_installed_is_a_fault_that_lists_what_is() -> None:
    with pytest.raises(PluginError, match=r"plugins.disabled: 'mqt' is not installed; known: .*\bmqtt\b"):
        plugin_manager(["mqt"])


class EntryPoint:
    """An installed plugin."""

    value = "some_module"

    def __init__(self, name: str, loaded: object) -> None:
        self.name, self._loaded = name, loaded

    def load(self) -> object:
        if isinstance(self._loaded, Exception):
            raise self._loaded
        return self._loaded


def install(monkeypatch: pytest.MonkeyPatch, *found: EntryPoint) -> None:
    monkeypatch.setattr(plugins, "entry_points", lambda group: list(found))


def test_installed_plugins_come_after_the_built_in_sorted_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, EntryPoint("zebra", plugin()), EntryPoint("ant", plugin()))
    names = [name for name, _ in plugin_manager().list_name_plugin()]
    assert names == [*BUILTIN, "ant", "zebra"]
    assert [name for name, _ in plugin_manager(["ant"]).list_name_plugin()] == [*BUILTIN, "zebra"]


FAULTY = {
    "cannot be imported": (ImportError("no module named x"), "no module named x"),
    "takes an argument there is not": (plugin(gateway_protocols=lambda colour: []), "colour"),
    "implements a hook there is not": (plugin(gateway_protocol=lambda config: []), "gateway_protocol"),
}


@pytest.mark.parametrize("case", FAULTY)
def test_an_installed_plugin_that_cannot_be_used_is_named(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, complaint = FAULTY[case]
    install(monkeypatch, EntryPoint("faulty", loaded))
    with pytest.raises(PluginError, match=f"(?s)faulty.*{complaint}"):
        plugin_manager()


def test_two_plugins_of_one_name_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, EntryPoint("mqtt", plugin()))
    with pytest.raises(PluginError, match=r"^plugin 'mqtt' \(some_module\): the name is taken$"):
        plugin_manager()


def test_two_protocols_of_one_name_are_a_fault_that_says_where_they_are_from(tmp_path: Path) -> None:
    twin = SimpleNamespace(name="mqtt", address="")
    with pytest.raises(
        PluginError, match=r"protocol 'mqtt' is offered twice: by gateway\.protocols\.mqtt and"
    ):
        Server(config(tmp_path), [plugin(gateway_protocols=lambda: [twin])])
    assert named([twin], "protocol") == {"mqtt": twin}


def test_two_engines_of_one_name_are_a_fault_that_names_both_plugins() -> None:
    manager = plugin_manager()
    manager.register(plugin(gateway_storage_engines=lambda: {"memory": MemoryEngine}), "other")
    with pytest.raises(PluginError, match="storage engine 'memory' is offered by memory and other"):
        engine_factory(manager, "memory")


def test_an_engine_nobody_offers_is_a_fault_that_lists_those_there_are() -> None:
    with pytest.raises(StorageError, match="'jetstream' is not installed; known: commitlog, memory"):
        engine_factory(plugin_manager(), "jetstream")


async def test_a_disabled_protocols_door_is_closed(tmp_path: Path) -> None:
    settings = config(tmp_path, "plugins.disabled=['mqtt']")
    server = Server(settings)
    assert "mqtt" not in server.protocols
    await run(server)
    with pytest.raises(ConfigError, match="unknown door"):
        Server(config(tmp_path, "listeners.nosuch=127.0.0.1:1"))
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_a_language_of_selectors_comes_by_plugin_and_only_once(tmp_path: Path) -> None:
    def everything(text: str) -> None:
        return None

    server = Server(config(tmp_path), [plugin(gateway_selectors=lambda: {"mine": everything})])
    assert server.broker.selectors.languages == ["sql", "tags", "mine"]
    assert server.broker.selectors.find("x", "mine") is None
    with pytest.raises(PluginError, match="selector language 'sql' is offered by selectors and"):
        Server(config(tmp_path), [plugin(gateway_selectors=lambda: {"sql": everything})])
    without = Server(config(tmp_path, 'plugins.disabled=["selectors"]'))
    assert without.broker.selectors.languages == []
