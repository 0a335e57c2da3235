"""Clients of the matrix at the CoAP door, over UDP: what each shows is in the query of its requests."""

from __future__ import annotations

from gateway.protocols.coap.numbers import GET, POST, PUT
from tests.coap_client import Answer as Message
from tests.coap_client import CoapClient
from tests.interop.access_cases import Answer, Login, LoginRefused, queue, topic
from tests.interop.access_house import House

OK = "2"
NO = "4.03"
REFUSED = "4.01"


class CoapLink:
    """One socket. There is no connection: the first request says whether a login is right."""

    def __init__(self, house: House, login: Login) -> None:
        self._client = CoapClient(house.process.coap_port, source=login.host)
        self._query: tuple[str, ...] = ()
        if login.name in ("token", "jwks"):
            self._query = (f"token={login.secret}",)
        elif login.secret:
            self._query = (f"username={login.username}", f"password={login.secret}")

    def _told(self, found: Message) -> Answer:
        if found.code == REFUSED:
            raise LoginRefused(found.code, found.payload.decode())
        return Answer(OK if found.code[0] == OK else found.code, found.payload.decode(errors="replace"))

    def _ask(self, code: int, path: str, body: str = "") -> Answer:
        return self._told(self._client.request(code, path, body.encode(), self._query))

    def publish(self, login: str, case: str, body: str = "") -> Answer:
        return self._ask(PUT, f"/ps/{topic(login, 'publish', case)}", body)

    def subscribe(self, login: str, case: str) -> Answer:
        return self._told(self._client.observe(f"/ps/{topic(login, 'subscribe', case)}", self._query))

    def consume(self, login: str, case: str) -> Answer:
        return self._ask(POST, f"/queues/{queue(login, 'consume', case)}/receive")

    def view(self, login: str, case: str) -> Answer:
        return self._ask(GET, f"/queues/{queue(login, 'view', case)}")

    def close(self) -> None:
        self._client.sock.close()
