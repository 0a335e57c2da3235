"""The workbench's HTTP API, below /v1/dead-letters: look, mend, replay, purge.

Whoever may view the admin area `dead-letters` may look, who may manage it may do the rest; to send
letters to a topic one must be allowed to publish there, too.
"""

from __future__ import annotations

from typing import Any, Final

from gateway import http_api
from gateway.api import Action, Conflict, Gateway, HttpRequest, InvalidValue, NotFound
from gateway.core.access import queue_resource
from gateway.core.broker import Broker
from gateway.core.classic import ClassicQueue
from gateway.core.selector import Selector
from gateway.core.topic import check_topic
from gateway.http_api import CREATED, Api, Route, answer

from . import letters
from .job import ORIGIN, RATE_DEFAULT, RATE_MAX, Job, Order

AREA: Final = "dead-letters"
PAGE_DEFAULT, PAGE_MAX = 100, 1000
PREVIEW: Final = 10  # letters that a dry run shows
POSITIONS_MAX: Final = 1000  # of one replay: more are chosen by a selector
JOBS_MAX: Final = 100  # that are remembered; those that run are among them


class Call(http_api.Call):
    """One request, and the jobs."""

    def __init__(
        self, jobs: dict[int, Job], gateway: Gateway, request: HttpRequest, parts: dict[str, str]
    ) -> None:
        super().__init__(gateway, request, parts)
        self.jobs = jobs

    @property
    def broker(self) -> Broker:
        """The broker, in a turn of its own."""
        self.gateway.begin_turn()
        return self.gateway.broker

    def queue(self) -> ClassicQueue:
        """Return the queue that the path names. Raise NotFound."""
        return letters.queue_of(self.broker, self.parts["queue"])

    def letter(self) -> letters.Letter:
        """Return the letter that the path names. Raise NotFound."""
        text = self.parts["position"]
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise NotFound(f"{text[:40]!r} is no position of a letter")
        return letters.find(self.broker, self.queue(), int(text))

    def selector(self, text: Any) -> Selector | None:
        """Return a compiled selector. Raise InvalidValue."""
        if not isinstance(text, str):
            raise InvalidValue("selector: a text is expected")
        return self.gateway.broker.selectors.find(text) if text else None

    def number(self, value: Any, name: str, least: int, most: int) -> int:
        """Return a whole number. Raise InvalidValue."""
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise InvalidValue(f"{name}: a whole number from {least} to {most} is expected")
        return value

    def job(self) -> Job:
        """Return the job that the path names. Raise NotFound."""
        text = self.parts["job"]
        found = self.jobs.get(int(text)) if text.isascii() and text.isdigit() and len(text) < 10 else None
        if found is None:
            raise NotFound(f"there is no replay {text[:40]!r}: of those that ended few are remembered")
        return found


async def _queues(call: Call) -> Any:
    found = [
        {"queue": queue.name, "letters": queue.length(), "bytes": queue.bytes_waiting,
         "held": len(queue.held())}
        for queue in letters.queues(call.broker)
    ]  # fmt: skip
    return {"queues": found}


async def _letters(call: Call) -> Any:
    queue, asked = call.queue(), {name: values[-1] for name, values in call.asked().items()}
    unknown = set(asked) - {"selector", "after", "limit"}
    if unknown:
        raise InvalidValue(f"{min(unknown)[:80]!r}: unknown; known: selector, after, limit")
    limit = call.number(asked.get("limit", PAGE_DEFAULT), "limit", 1, PAGE_MAX)
    after = call.number(asked.get("after", 0), "after", 0, (1 << 62))
    wanted = call.selector(asked.get("selector", ""))
    page = letters.page(call.broker, queue, after, limit, wanted)
    return {"letters": [letters.shown(each, False) for each in page.letters], "next": page.next}


async def _letter(call: Call) -> Any:
    return letters.shown(call.letter(), True)


async def _edit(call: Call) -> Any:
    fields = call.fields("body", "body_base64", "headers", *letters.EDITABLE)
    queue, letter = call.queue(), call.letter()
    changed = letters.edited(letter, fields)
    position = call.broker.letters.send_on(queue, letter.position, changed, queue)
    if position is None:
        raise Conflict(f"letter {letter.position} is in a consumer's hands; edit it once it is back")
    call.changed("dead-letters.edit", queue_resource(queue.name), f"{letter.position}: {', '.join(fields)}")
    await call.stored()
    return letters.shown(letters.find(call.broker, queue, position), True)


async def _replay(call: Call) -> Any:
    known = ("to", "selector", "positions", "limit", "rate", "dry_run")
    fields, queue = call.fields(*known), call.queue()
    to, text = fields.get("to", ORIGIN), fields.get("selector", "")
    if not isinstance(to, str) or not isinstance(fields.get("dry_run", False), bool):
        raise InvalidValue("to: `origin` or a topic is expected; dry_run: true or false")
    if to != ORIGIN:
        check_topic(to)
        call.session.check_publish(to)
    wanted = call.selector(text)
    limit = call.number(fields.get("limit", 0), "limit", 0, 1 << 40)
    rate = call.number(fields.get("rate", RATE_DEFAULT), "rate", 1, RATE_MAX)
    order = Order(to, text, wanted, _positions(call, fields.get("positions")), limit)
    if order.positions is not None and wanted is not None:
        raise InvalidValue("selector and positions: one of both says which letters are meant")
    job = Job(call.broker, max(call.jobs, default=0) + 1, queue, order, rate)
    if fields.get("dry_run"):
        return _preview(call, queue, job)
    if sum(other.state == "running" for other in call.jobs.values()) >= JOBS_MAX:
        raise Conflict(f"{JOBS_MAX} replays are running; wait, or stop one")
    for number in [n for n, other in call.jobs.items() if other.state != "running"][: -JOBS_MAX + 1]:
        del call.jobs[number]
    call.jobs[job.number] = job
    call.changed("dead-letters.replay", queue_resource(queue.name), f"to {to!r}, {text or 'all'}")
    job.start()
    return answer(CREATED, job.shown())


def _positions(call: Call, given: Any) -> list[int] | None:
    if given is None:
        return None
    if not isinstance(given, list) or not 0 < len(given) <= POSITIONS_MAX:
        raise InvalidValue(f"positions: a list of 1 to {POSITIONS_MAX} positions is expected")
    return [call.number(each, "positions", 1, 1 << 62) for each in given]


def _preview(call: Call, queue: ClassicQueue, job: Job) -> Any:
    """Return what a replay would do, of as many letters as one request may look at."""
    found, complete = _chosen(call, queue, job.order)
    found = found[: job.order.limit] if job.order.limit else found
    refused: dict[str, int] = {}
    sent: list[dict[str, Any]] = []
    count = 0
    for letter in found:
        try:
            to, message = job.made(letter)
        except NotFound as error:
            refused[error.detail] = refused.get(error.detail, 0) + 1
            continue
        count += 1
        if len(sent) < PREVIEW:
            where = message.topic if to is None else to.name
            sent.append({"position": letter.position, "to": where, "topic": message.topic})
    return {"dry_run": True, "would_send": count, "would_leave": refused, "first": sent, "complete": complete}


def _chosen(call: Call, queue: ClassicQueue, order: Order) -> tuple[list[letters.Letter], bool]:
    """Return the letters that are meant, and whether these are all of them."""
    if order.positions is None:
        page = letters.page(call.broker, queue, 0, letters.SCANNED_MAX, order.wanted)
        return page.letters, not page.next
    found = []
    for position in order.positions:
        try:
            found.append(letters.find(call.broker, queue, position))
        except NotFound:
            continue
    return found, True


async def _purge(call: Call) -> Any:
    fields, queue = call.fields("count"), call.queue()
    count = call.number(fields.get("count"), "count", 0, 1 << 40)
    if count != queue.length():
        raise Conflict(f"{queue.name!r} has {queue.length()} letters, not {count}: say how many are to go")
    purged = call.broker.queues.purge(queue)
    call.changed("dead-letters.purge", queue_resource(queue.name), f"{purged} letters")
    await call.stored()
    return {"purged": purged}


async def _jobs(call: Call) -> Any:
    return {"replays": [job.shown() for job in call.jobs.values()]}


async def _job(call: Call) -> Any:
    return call.job().shown()


async def _stop(call: Call) -> Any:
    job = call.job()
    job.stop()
    call.changed("dead-letters.stop", queue_resource(job.queue.name), f"replay {job.number}")


VIEW, MANAGE = Action.VIEW, Action.MANAGE
BASE: Final = "/v1/dead-letters"
ONE: Final = BASE + "/{queue}/letters/{position}"
REPLAY: Final = {"to": ORIGIN, "selector": "cause = 'rejected' AND age < 3600", "rate": 100, "dry_run": True}
ROUTES: Final = (
    Route("GET", BASE, AREA, VIEW, _queues, "Queues of dead letters"),
    Route("GET", BASE + "/{queue}/letters", AREA, VIEW, _letters, "Letters, oldest first"),
    Route("GET", ONE, AREA, VIEW, _letter, "One letter with its body"),
    Route("PUT", ONE, AREA, MANAGE, _edit, "Mend a letter", {"headers": {"retry": "yes"}}),
    Route("POST", BASE + "/{queue}/replay", AREA, MANAGE, _replay, "Send letters on", REPLAY),
    Route("POST", BASE + "/{queue}/purge", AREA, MANAGE, _purge, "Throw letters away", {"count": 3}),
    Route("GET", BASE + "-replays", AREA, VIEW, _jobs, "Replays"),
    Route("GET", BASE + "-replays/{job}", AREA, VIEW, _job, "How far a replay has come"),
    Route("DELETE", BASE + "-replays/{job}", AREA, MANAGE, _stop, "Stop a replay"),
)


class DeadLettersApi(Api):
    """Implements `gateway.api.HttpPart`."""

    def __init__(self, gateway: Gateway) -> None:
        jobs: dict[int, Job] = {}
        super().__init__(ROUTES, lambda request, parts: Call(jobs, gateway, request, parts))
