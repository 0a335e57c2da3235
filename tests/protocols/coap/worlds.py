"""Resources and links that tests of the CoAP door stand between."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.core.clock import Clock
from gateway.core.scheduler import Scheduler
from gateway.protocols.coap.blockwise import Blockwise, block
from gateway.protocols.coap.codec import Option, encode_options, read_options
from gateway.protocols.coap.exchange import Link, Request, Response
from gateway.protocols.coap.numbers import BLOCK1, BLOCK2, CONTENT, GET, PUT, URI_PATH


class Resource:
    """A Handler that notes what it gets and answers with what it is told."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.left: list[Link] = []
        self.resets: list[tuple[Link, bytes]] = []
        self.answer: Callable[[Request], Response] = lambda request: Response()

    def handle(self, request: Request) -> None:
        self.requests.append(request)
        request.respond(self.answer(request))

    def reset(self, link: Link, token: bytes) -> None:
        self.resets.append((link, token))

    def gone(self, link: Link) -> None:
        self.left.append(link)


class World:
    """Blockwise around a resource, with a clock that tests set."""

    def __init__(self, body_bytes_max: int = 10_000, bytes_max: int = 1 << 20) -> None:
        self.clock = Clock(1_000_000, 1_000_000)
        self.scheduler = Scheduler(self.clock)
        self.resource = Resource()
        self.blockwise = Blockwise(
            self.resource, self.scheduler, body_bytes_max=body_bytes_max, bytes_max=bytes_max
        )
        self.link = Link("127.0.0.1:1")

    def pass_seconds(self, seconds: float) -> None:
        """Let time pass, and what is due be done."""
        self.clock.monotonic_ms += int(seconds * 1000)
        self.scheduler.run_due()

    def ask(
        self,
        code: int,
        payload: bytes = b"",
        options: Sequence[Option] = (),
        path: str = "a",
        link: Link | None = None,
    ) -> Response:
        """Return the answer to a request."""
        found: list[Response] = []
        read = read_options(encode_options([(URI_PATH, path.encode()), *options]))
        self.blockwise.handle(Request(link or self.link, code, b"t", read, payload, True, found.append))
        assert len(found) == 1
        return found[0]

    def put(
        self,
        number: int,
        more: bool,
        payload: bytes,
        szx: int = 2,
        options: Sequence[Option] = (),
        path: str = "a",
        link: Link | None = None,
        code: int = PUT,
    ) -> Response:
        """Send one block."""
        return self.ask(code, payload, [(BLOCK1, block(number, more, szx)), *options], path, link)

    def get(
        self, number: int, szx: int = 6, options: Sequence[Option] = (), path: str = "a", code: int = GET
    ) -> Response:
        """Ask for one block."""
        return self.ask(code, b"", [(BLOCK2, block(number, False, szx)), *options], path)

    def gives(self, payload: bytes, *options: Option, code: int = CONTENT) -> None:
        """Have the resource answer so from now on."""
        self.resource.answer = lambda request: Response(code, payload, options)


def option(response: Response, number: int) -> bytes | None:
    """Return the value of an option, None if it is not there."""
    found = [value for known, value in response.options if known == number]
    assert len(found) <= 1
    return found[0] if found else None


def read_block(response: Response, number: int) -> tuple[int, bool, int] | None:
    """Return a Block option as number, more, size exponent."""
    value = option(response, number)
    if value is None:
        return None
    word = int.from_bytes(value, "big")
    return (word >> 4, bool(word & 8), word & 7)
