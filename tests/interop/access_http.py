"""Clients of the matrix at the HTTP door: requests (httpx), server-sent events, WebSockets (websockets)."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any
from urllib.parse import quote

import httpx
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.interop.access_cases import AREAS, HOST, SECONDS, Answer, Login, LoginRefused, queue, topic
from tests.interop.access_house import House

PATHS = {"metrics": "/metrics", "overview": "/v1/admin/overview", "users": "/v1/admin/users"}


def headers_of(login: Login) -> dict[str, str]:
    """Return the login's header; a key has one of its own."""
    if login.basic or not login.secret:
        return {}
    return {"X-API-Key": login.secret} if login.name == "key" else {"Authorization": f"Bearer {login.secret}"}


def answer_of(response: httpx.Response) -> Answer:
    """Return the status, and of a problem its kind, words and rule."""
    response.read()
    if response.status_code < 400:
        return Answer(response.status_code)
    problem = response.json()
    if response.status_code == 401:
        schemes = response.headers.get_list("www-authenticate")
        raise LoginRefused((401, len(schemes)), problem["detail"])
    code = (response.status_code, problem["type"].rpartition("#")[2])
    return Answer(code, f"{problem['detail']} [{problem.get('rule', 'no rule')}]")


class HttpLink:
    """httpx, at one of both doors."""

    def __init__(self, house: House, tls: bool, login: Login) -> None:
        scheme = "https" if tls else "http"
        context: Any = house.context(login.certificate) if tls else False
        auth = (login.username or "", login.secret) if login.basic else None
        self.client = httpx.Client(
            base_url=f"{scheme}://{HOST}:{house.port('http', tls)}",
            auth=auth,
            headers=headers_of(login),
            transport=httpx.HTTPTransport(verify=context, local_address=login.host),
            timeout=SECONDS,
        )
        self._mark = f"{scheme}"

    def _ask(self, method: str, path: str, **options: Any) -> Answer:
        return answer_of(self.client.request(method, path, **options))

    def publish(self, login: str, case: str, body: str = "") -> Answer:
        return self._ask("POST", f"/v1/topics/{quote(topic(login, 'publish', case))}", content=body)

    def subscribe(self, login: str, case: str) -> Answer:
        return self._ask("GET", f"/v1/topics/{quote(topic(login, 'subscribe', case))}")

    def consume(self, login: str, case: str) -> Answer:
        return self._ask("POST", f"/v1/queues/{queue(login, 'consume', case)}/receive")

    def manage(self, login: str, case: str) -> Answer:
        name = f"{queue(login, 'manage', case)}-{self._mark}"
        return self._ask("PUT", f"/v1/queues/{name}", json={"durable": False})

    def view(self, login: str, case: str) -> Answer:
        return self._ask("GET", f"/v1/queues/{queue(login, 'view', case)}")

    def administer(self, login: str, case: str) -> Answer:
        return self._ask("GET", PATHS[AREAS[case]])

    def close(self) -> None:
        self.client.close()


class SseLink(HttpLink):
    """Server-sent events: each stream is a request, and a login."""

    def _stream(self, **parameters: str) -> Answer:
        with self.client.stream("GET", "/v1/subscribe", params=parameters) as response:
            if response.status_code == 200:
                return Answer((200, response.headers["content-type"].partition(";")[0]))
            return answer_of(response)

    def subscribe(self, login: str, case: str) -> Answer:
        return self._stream(filter=topic(login, "subscribe", case))

    def consume(self, login: str, case: str) -> Answer:
        return self._stream(stream=queue(login, "consume", case) + "-stream", offset="earliest")


class SocketLink:
    """`/v1/ws`, with the library that Python programs use."""

    def __init__(self, house: House, tls: bool, login: Login) -> None:
        headers = headers_of(login)
        if login.basic:
            headers["Authorization"] = httpx.BasicAuth(login.username or "", login.secret)._auth_header
        options: dict[str, Any] = {"server_hostname": HOST} if tls else {}
        self._stack = ExitStack()
        try:
            opened = connect(
                f"{'wss' if tls else 'ws'}://{HOST}:{house.port('http', tls)}/v1/ws",
                sock=house.dial("http", tls, login, wrapped=False),
                ssl=house.context(login.certificate) if tls else None,
                additional_headers=headers,
                open_timeout=SECONDS,
                close_timeout=SECONDS,
                **options,
            )
            self._socket = self._stack.enter_context(opened)
        except InvalidStatus as error:
            schemes = error.response.headers.get_all("www-authenticate")
            raise LoginRefused((error.response.status_code, len(schemes))) from error

    def _ask(self, op: str, **fields: str) -> Answer:
        self._socket.send(json.dumps({"op": op, "id": op, **fields}))
        while True:
            found = json.loads(self._socket.recv(SECONDS))
            if found.get("id") != op:
                continue  # a message
            if found["op"] != "error":
                return Answer(found["op"])
            problem = found["problem"]
            code = (problem["status"], problem["type"].rpartition("#")[2])
            return Answer(code, f"{problem['detail']} [{problem.get('rule', 'no rule')}]")

    def publish(self, login: str, case: str, body: str = "") -> Answer:
        return self._ask("publish", topic=topic(login, "publish", case), body=body)

    def subscribe(self, login: str, case: str) -> Answer:
        return self._ask("subscribe", filter=topic(login, "subscribe", case))

    def consume(self, login: str, case: str) -> Answer:
        return self._ask("consume", queue=queue(login, "consume", case))

    def close(self) -> None:
        self._stack.close()
