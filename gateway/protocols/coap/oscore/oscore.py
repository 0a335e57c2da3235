"""OSCORE (RFC 8613): requests that are protected end to end, whatever they came by.

A layer around a handler. What is inside a request is a request of its own, on a link of its own
(`OscoreLink`), whose principal is whoever has the key; what is not protected passes through. Outside
there is nothing to be seen but a POST or FETCH with the OSCORE option, and 2.04 or 2.05.

Errors before a request has proven whose it is are said in the open (8.2), all others inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

from gateway.api import Gateway
from gateway.core.access import Credentials

from ..answers import Refused, fault_of, refusal
from ..codec import Malformed, Options, OptionsCache, encode_options
from ..datagrams.guard import needs_proof, suppressed, too_large_for_stranger
from ..exchange import SILENCE, Handler, Link, Request, Response
from ..numbers import (
    BAD_OPTION,
    BAD_REQUEST,
    CHANGED,
    CONTENT,
    ECHO,
    FETCH,
    GET,
    MAX_AGE,
    NOT_IMPLEMENTED,
    OBSERVE,
    SERVICE_UNAVAILABLE,
    UNAUTHORIZED,
)
from .oscore_codec import (
    library_found,
    read_header,
    read_inside,
    request_options,
    response_header,
    response_options,
    write_inside,
)
from .oscore_contexts import LINKS_MAX, Context, Contexts, Numbers

log = structlog.get_logger("gateway")

OBSERVATIONS_MAX: Final = 4096  # of one link; more are answered as if they did not observe (RFC 7641, 4.1)
NO_NUMBERS: Final = "the gateway cannot note on disk what it needs to; try again later"
REGISTER: Final = 0  # values of a request's Observe
OUTSIDE_BYTES: Final = 24  # of a datagram around what is sealed: header, token, option
MISSING: Final = "OSCORE is not installed here: the gateway needs its extra 'oscore'"


class OscoreLink(Link):
    """A security context, as it is heard from at one address."""

    __slots__ = ("_held", "context", "numbers", "registered", "under")

    def __init__(self, context: Context, under: Link, numbers: Numbers) -> None:
        self.under = under
        self._held = 0
        super().__init__(under.peer, secure=True, reliable=under.reliable, size_max=under.size_max)
        self.context = context
        self.numbers = numbers
        self.principal = context.principal
        self.identity = context.device
        self.registered: dict[bytes, _Registration] = {}  # observations by token

    @property
    def held(self) -> int:
        """By so many observations. What holds this link holds the one under it."""
        return self._held

    @held.setter
    def held(self, count: int) -> None:
        self.under.held += count - self._held
        self._held = count

    @property
    def open(self) -> bool:
        return self.under.open

    def notify(
        self, token: bytes, response: Response, confirmable: bool, done: Callable[[bool], None]
    ) -> None:
        registration = self.registered.get(token)
        if registration is None or not registration.notify(self, token, response, confirmable, done):
            self.numbers.scheduler.after(0, lambda: done(False))
        elif not observes(response):
            del self.registered[token]  # it was the last one

    def drop_pending(self, token: bytes) -> None:
        registration = self.registered.pop(token, None)
        if registration is not None:
            registration.over = True
        self.under.drop_pending(token)


class _Registration:
    """The request that an observation goes back to: every notification is bound to it (RFC 8613, 5.4)."""

    __slots__ = ("code", "over", "request_iv")

    def __init__(self, request_iv: bytes, code: int) -> None:
        self.request_iv = request_iv
        self.code = code
        self.over = False  # nobody waits for what has no number yet

    def notify(
        self,
        link: OscoreLink,
        token: bytes,
        response: Response,
        confirmable: bool,
        done: Callable[[bool], None],
    ) -> bool:
        """Send a notification when there is a number for it; False: there is none."""

        def send(own_iv: bytes) -> None:
            if self.over:
                return
            if own_iv:
                sealed = protect(link.context, response, self.code, self.request_iv, own_iv)
                link.under.notify(token, sealed, confirmable, done)
            else:
                link.numbers.scheduler.after(0, lambda: done(False))

        return link.numbers.take(send)


def observes(response: Response) -> bool:
    """Tell whether a response is the answer to a registration, or a notification that others follow."""
    return any(number == OBSERVE for number, _ in response.options)


def protect(context: Context, response: Response, code: int, request_iv: bytes, own_iv: bytes) -> Response:
    """Return a response as it is sent; `code` is what it has outside, `own_iv` empty to use the request's."""
    inside, outside = response_options(tuple(response.options), response_header(own_iv))
    sealed = context.keys.seal(write_inside(response.code, inside, response.payload), request_iv, own_iv)
    return Response(code, sealed, outside)


class _Exchange:
    """A protected request on its way to its answer."""

    __slots__ = ("code", "context", "echo", "link", "no_response", "outer", "request_iv", "safe")

    def __init__(self, context: Context, outer: Request, request_iv: bytes) -> None:
        self.echo = context.echo(outer.link.peer)
        self.no_response = -1  # classes of answers that its sender does not want (RFC 7967)
        self.safe = False  # it may be asked again without harm
        self.context = context
        self.outer = outer
        self.request_iv = request_iv
        self.link: OscoreLink | None = None  # that would observe by it
        # RFC 8613, 4.2: so that those on the way may pass on notifications.
        self.code = CONTENT if outer.code == FETCH else CHANGED

    def respond(self, response: Response) -> None:
        """Answer, with the request's own nonce."""
        outer = self.outer
        if self.link is not None:
            if observes(response):
                self._observed(self.link, response)
                return
            self.link.registered.pop(outer.token, None)
        if suppressed(self.no_response, response.code):
            outer.respond(SILENCE)
            return
        if self.safe and not outer.link.proven:
            size = OUTSIDE_BYTES + len(outer.payload)
            if too_large_for_stranger(OUTSIDE_BYTES + len(response.payload), size):
                response = self.challenge()
        sealed = protect(self.context, response, self.code, self.request_iv, b"")
        sealed.done = response.done
        outer.respond(sealed)

    def _observed(self, link: OscoreLink, response: Response) -> None:
        """Answer a registration, with a number: clients compare those of notifications with it."""
        outer = self.outer
        link.registered[outer.token] = _Registration(self.request_iv, self.code)

        def answer(own_iv: bytes) -> None:
            outer.respond(protect(self.context, response, self.code, self.request_iv, own_iv))

        if not link.numbers.take(answer):
            answer(b"")

    def challenge(self) -> Response:
        """Return what asks the client to show that it is where its requests come from (RFC 9175, 2)."""
        return Response(UNAUTHORIZED, b"", ((ECHO, self.echo),))


class Oscore:
    """Implements `Handler` around another: what is inside goes on to `inner` as if it had come so."""

    __slots__ = ("_available", "_gateway", "_inner", "_links", "_numbers", "_options", "contexts", "refused")

    def __init__(self, gateway: Gateway, inner: Handler) -> None:
        self._gateway = gateway
        self._inner = inner
        self._available = library_found()
        self.contexts = Contexts(gateway, self._forgotten)
        self._numbers: Numbers | None = None
        self._links: dict[Link, list[OscoreLink]] = {}  # by the link under them
        self._options = OptionsCache()
        self.refused = 0  # requests that were not made with the key they name, or were made before
        if not self._available:
            log.info("OSCORE is off: aiocoap is not installed; the extra 'oscore' has it")

    def handle(self, request: Request) -> None:
        """See `Handler`."""
        value = request.options.oscore
        if value is None:
            self._inner.handle(request)
            return
        try:
            self._take(request, value)
        except Refused as error:
            # RFC 8613, 8.2: not to be kept by anybody on the way.
            request.respond(Response(error.code, error.detail.encode(), ((MAX_AGE, b""),)))

    def reset(self, link: Link, token: bytes) -> None:
        """See `Handler`."""
        for each in self._links.get(link, ()):
            if token in each.registered:
                self._inner.reset(each, token)
                each.registered.pop(token, None)
                return
        self._inner.reset(link, token)

    def gone(self, link: Link) -> None:
        """See `Handler`."""
        for each in self._links.pop(link, ()):
            each.context.links.pop(link, None)
            self._inner.gone(each)
        self._inner.gone(link)

    # -- requests -----------------------------------------------------------------------------

    def _take(self, request: Request, value: bytes) -> None:
        """Take a protected request. Raise Refused while nobody knows whose it is."""
        if not self._available:
            raise Refused(NOT_IMPLEMENTED, MISSING)
        outer = request.options
        if outer.block1 >= 0 or outer.block2 >> 4 > 0:
            # Fragments that somebody on the way has made (4.1.3.4.2): nobody is known to.
            raise Refused(BAD_OPTION, "Block outside of OSCORE is not known here; use it inside")
        try:
            header = read_header(value)
        except Malformed as error:
            raise Refused(BAD_OPTION, f"Failed to decode COSE: {error}") from None
        try:
            context = self.contexts.find(header)
        except ImportError as error:
            log.error("OSCORE is off: its library cannot be used", reason=str(error))
            self._available = False
            raise Refused(NOT_IMPLEMENTED, MISSING) from None
        window, number = context.window, int.from_bytes(header.partial_iv, "big")
        fresh = window.is_initialized()
        if fresh and not window.is_valid(number):
            raise self._refusal(request, context, UNAUTHORIZED, "Replay detected")
        plaintext = context.keys.open(header.partial_iv, request.payload)
        if plaintext is None:
            raise self._refusal(request, context, BAD_REQUEST, "Decryption failed")
        self.contexts.keep(context)
        exchange = _Exchange(context, request, header.partial_iv)
        code, options, payload, fault = self._read(plaintext, outer)
        here = options.echo == exchange.echo
        if here:
            request.link.proven = True
        if fresh:
            window.strike_out(number)
        elif here:
            window.initialize_from_freshlyseen(number)
        else:
            self._challenge(exchange)
            return
        if fault is not None:
            exchange.respond(fault)
            return
        self._pass_on(exchange, code, options, payload)

    def _refusal(self, request: Request, context: Context, code: int, detail: str) -> Refused:
        """Count a request that is not its user's own; return what to raise.

        It counts as a failed login, but locks nobody out: whoever can make up an address could
        lock out whom he likes, and there is nothing to be guessed in 128 bits.
        """
        self.refused += 1
        principal = context.principal
        credentials = Credentials("coap", request.link.peer, username=principal.name if principal else None)
        self._gateway.login_refused(credentials, f"OSCORE: {detail}")
        return Refused(code, detail)

    def _read(self, plaintext: bytes, outer: Options) -> tuple[int, Options, bytes, Response | None]:
        """Return (code, options, payload, what is wrong with them) of what was inside."""
        try:
            code, block, payload = read_inside(plaintext)
            options = self._options.read(block)
            meant = request_options(options, outer)
            if meant is not None:
                options = self._options.read(encode_options(meant))
        except Malformed as error:
            return 0, Options(), b"", refusal(BAD_REQUEST, f"inside OSCORE: {error}")
        fault = fault_of(options)
        if fault is not None:
            return code, options, payload, fault
        if not 0 < code < 32 or options.oscore is not None:
            return code, options, payload, refusal(BAD_REQUEST, "inside OSCORE: no plain request")
        return code, options, payload, None

    def _pass_on(self, exchange: _Exchange, code: int, options: Options, payload: bytes) -> None:
        outer = exchange.outer
        if not outer.link.proven and needs_proof(options):
            exchange.respond(exchange.challenge())
            return
        exchange.safe = code in (GET, FETCH)
        exchange.no_response = options.no_response
        link = self._link(exchange.context, outer.link)
        if options.observe == REGISTER:
            if outer.token in link.registered or len(link.registered) < OBSERVATIONS_MAX:
                exchange.link = link
            else:
                options = self._without_observe(options)
        elif options.observe > REGISTER:
            link.registered.pop(outer.token, None)
        self._inner.handle(
            Request(link, code, outer.token, options, payload, outer.confirmable, exchange.respond)
        )

    def _without_observe(self, options: Options) -> Options:
        kept = [option for option in options.all if option[0] != OBSERVE]
        return self._options.read(encode_options(kept))

    def _challenge(self, exchange: _Exchange) -> None:
        """Ask whether the client is there now (B.1.2). Its request may be an old one: not with that nonce."""

        def answer(own_iv: bytes) -> None:
            if own_iv:
                sealed = protect(
                    exchange.context, exchange.challenge(), exchange.code, exchange.request_iv, own_iv
                )
                exchange.outer.respond(sealed)
            else:
                exchange.outer.respond(refusal(SERVICE_UNAVAILABLE, NO_NUMBERS))

        if not self._row().take(answer):
            answer(b"")

    # -- links --------------------------------------------------------------------------------

    def _row(self) -> Numbers:
        if self._numbers is None:
            self._numbers = Numbers(self._gateway)
        return self._numbers

    def _link(self, context: Context, under: Link) -> OscoreLink:
        """Return the link of a context at an address."""
        links = context.links
        link = links.pop(under, None)
        if link is None:
            link = OscoreLink(context, under, self._row())
            self._links.setdefault(under, []).append(link)
            if len(links) >= LINKS_MAX:
                self._forgotten(links.pop(next(iter(links))))
        links[under] = link
        return link

    def _forgotten(self, link: OscoreLink) -> None:
        """Nobody is to be heard by it any more."""
        under = self._links.get(link.under)
        if under is not None and link in under:
            under.remove(link)
            if not under:
                del self._links[link.under]
        self._inner.gone(link)
