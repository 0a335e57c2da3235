"""The logins that are keys of CoAP's handshakes, at the gateway's own interface, in this process.

They go through `shared_key` and `open_session`, as the doors call them.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from pathlib import Path

from gateway.api import Action, Credentials, GatewayError, Session
from gateway.auth.acl.rule import rule_from
from gateway.auth.builtin import Auth
from gateway.auth.users import User, seal_for_user
from gateway.config import load
from gateway.core.access import queue_resource
from gateway.server import Server
from tests.interop.access_cases import AREAS, CASES, HOST, Answer, LoginRefused, queue, rules, topic

SECRET = b"0123456789abcdef"
LOGINS = ("psk", "oscore")
PEER = f"{HOST}:4711"
OK = "ok"


class Core:
    """A gateway without doors."""

    def __init__(self, directory: Path) -> None:
        sets = [f"listeners.{door}=" for door in ("mqtt", "amqp", "http", "coap", "openmessaging")]
        sets.append("plugins.disabled=['auth', 'line']")  # 'auth': the same, but within reach
        config = directory / "gateway.toml"
        config.write_text("[certificates]\nusers_only = true\n")
        self._auth = Auth()
        self.server = Server(load(config, sets, False, directory / "data"), [self._auth])

    async def start(self) -> None:
        """Start it, with somebody for each login."""
        await self.server.start()
        directory = self._auth.directory
        for login in LOGINS:
            sealed = seal_for_user(directory.sealer(), login, SECRET)
            directory.put_users([User(login, secret=sealed)])
            directory.put_rules([rule_from(fields) for fields in rules(login, f"user:{login}")])
            for case in CASES:
                self.server.broker.catalog.declare(queue(login, "consume", case), "classic", None, False)

    async def connect(self, login: str, secret: bytes = SECRET) -> Session:
        """Log in. Raise LoginRefused."""
        return self._by_key(login, secret)

    def _by_key(self, kind: str, secret: bytes) -> Session:
        """Have the handshake that a door would have: it fails if both sides' keys are not the same."""
        found = self.server.shared_key(kind, kind.encode())
        if found is None or not hmac.compare_digest(found.key, secret):
            raise LoginRefused("no handshake")
        return self.server.open_session(found.principal, Credentials("coap", PEER, "c"))


class CoreLink:
    """A session, used as doors use it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        session.receive(lambda batch: None, 10)

    def _ask(self, call: Callable[[], object]) -> Answer:
        try:
            call()
        except GatewayError as error:
            return Answer(type(error).__name__, f"{error.detail} [{getattr(error, 'rule', '')}]")
        return Answer(OK)

    def publish(self, login: str, case: str, body: str = "") -> Answer:
        return self._ask(lambda: self._session.check_publish(topic(login, "publish", case)))

    def subscribe(self, login: str, case: str) -> Answer:
        return self._ask(lambda: self._session.subscribe(topic(login, "subscribe", case)))

    def consume(self, login: str, case: str) -> Answer:
        name = queue(login, "consume", case)
        return self._ask(lambda: self._session.consume(name, lambda batch: None, 1))

    def manage(self, login: str, case: str) -> Answer:
        return self._check(Action.MANAGE, queue_resource(queue(login, "manage", case)))

    def view(self, login: str, case: str) -> Answer:
        return self._check(Action.VIEW, queue_resource(queue(login, "view", case)))

    def administer(self, login: str, case: str) -> Answer:
        return self._check(Action.VIEW, f"$admin/{AREAS[case]}")

    def _check(self, action: Action, resource: str) -> Answer:
        return self._ask(lambda: self._session.check(action, resource))

    def close(self) -> None:
        self._session.close()


def run_core(directory: Path, login: str, secret: bytes, use: Callable[[CoreLink], None]) -> None:
    """Run a gateway, log in, and have the session used."""

    async def run() -> None:
        core = Core(directory)
        await core.start()
        try:
            link = CoreLink(await core.connect(login, secret))
            use(link)
            link.close()
        finally:
            await core.server.stop()

    asyncio.run(run())
