"""Clients of the matrix at the door for RocketMQ: its procedures by gRPC, each call with its login."""

from __future__ import annotations

import selectors
import socket
import threading
from typing import Final

from gateway.rocketmq.names import escape
from gateway.rocketmq.numbers import Code
from tests.interop.access_cases import HOST, Answer, Login, LoginRefused, queue, topic
from tests.interop.access_house import House
from tests.rocketmq_raw import RawRocket, RefusedRaw

OK: Final = int(Code.OK)
NO: Final = int(Code.FORBIDDEN)
REFUSED: Final = int(Code.UNAUTHORIZED)
CHUNK: Final = 65536


class Detour:
    """A port whose connections go on to another one from an address that gRPC cannot choose itself."""

    def __init__(self, port: int, source: str) -> None:
        self._port, self._source = port, source
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        with near, socket.create_connection((HOST, self._port), 10, (self._source, 0)) as far:
            ways = selectors.DefaultSelector()
            ways.register(near, selectors.EVENT_READ, far)
            ways.register(far, selectors.EVENT_READ, near)
            with ways:
                while True:
                    for key, _ in ways.select():
                        assert isinstance(key.fileobj, socket.socket)
                        data = key.fileobj.recv(CHUNK)
                        if not data:
                            return
                        key.data.sendall(data)

    def close(self) -> None:
        self._listener.close()


class RocketLink:
    """A client; that its login is wrong it is told with its first call."""

    def __init__(self, house: House, tls: bool, login: Login) -> None:
        self._detour = Detour(house.port("openmessaging", tls), login.host)
        credentials = house.channel_credentials(login.certificate) if tls else None
        self._client = RawRocket(f"{HOST}:{self._detour.port}", f"{login.name}", credentials)
        if login.secret:
            assert login.username is not None
            self._client.log_in(login.username, login.secret)

    @staticmethod
    def _told(code: int, text: str) -> Answer:
        if code == REFUSED:
            raise LoginRefused(code, text)
        return Answer(code, text)

    def publish(self, login: str, case: str, body: str = "") -> Answer:
        # The matrix knocks without a body, and RocketMQ has no empty ones.
        found = self._client.send(escape(topic(login, "publish", case)), body.encode() or b"knock")
        return self._told(int(found.status.code), found.status.message)

    def _receive(self, name: str) -> Answer:
        try:
            self._client.receive("members", escape(name))
        except RefusedRaw as error:
            return self._told(int(error.code), error.text)
        return Answer(OK)

    def subscribe(self, login: str, case: str) -> Answer:
        return self._receive(topic(login, "subscribe", case))

    def consume(self, login: str, case: str) -> Answer:
        return self._receive(f"$queue/{queue(login, 'consume', case)}")

    def close(self) -> None:
        self._client.close()
        self._detour.close()
