"""Whoever calls the broker: what it may do, how much of it, and until when.

This half of a session asks the authority once per action and resource and remembers the
ruling until rules change; a publish that is remembered costs one look into a set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .access import (
    Action,
    Authority,
    Principal,
    Ruling,
    check_declared,
    check_open,
    group_resource,
    queue_resource,
)
from .broker import Broker
from .errors import AuthenticationFailed, GatewayError, NotAuthorized, QuotaExceeded
from .message import Message, Origin
from .metrics import DropCause
from .quota import Meter
from .scheduler import Timer
from .shares import is_share, shared_filter
from .topic import REPLY_PREFIX

ENDED = Ruling(False, "builtin.session-ended")
OWN_REPLIES = Ruling(True, "builtin.own-replies")
OTHERS_REPLIES = Ruling(False, "builtin.others-replies")
RECOUNT_MS = 1000  # how often what a client has retained is counted at most
RULINGS_CACHED_MAX = 1024  # per session: a client's working set of topics
_NOTHING: frozenset[str] = frozenset()  # what every session starts with: an empty set costs 216 bytes


class Owner(Protocol):
    """The connection that a session is for."""

    def end(self, error: GatewayError) -> None:
        """Tell the client why in its protocol's words, and close."""


class Caller:
    """One client's identity and rights. What it has subscribed to is its session's."""

    __slots__ = (
        "_expiry",
        "_rulings",
        "_slowed",
        "_use",
        "authority",
        "broker",
        "ended",
        "in_debt",
        "meters",
        "origin",
        "owner",
        "principal",
        "publishable",
        "reply_to",
    )

    def __init__(self, broker: Broker, principal: Principal, origin: Origin, authority: Authority) -> None:
        """Raise QuotaExceeded if the client has as many sessions as it may."""
        self.broker = broker
        self.authority = authority
        self.principal = principal
        self.origin = origin
        self.meters: tuple[Meter, ...] = authority.quotas.open(principal, origin, broker.clock.monotonic_ms)
        self.in_debt = False  # the protocol stops reading (see `overdraft_ms`) instead of refusing
        self.publishable: set[str] | frozenset[str] = _NOTHING  # topics this session may publish to
        self.owner: Owner | None = None
        self.reply_to = ""  # begins topics that it may subscribe to: for answers, see `replies`
        self.ended = False  # by us: whoever keeps the session must not go on with it
        self._rulings: dict[tuple[Action, str], Ruling] | None = None
        self._use = 0  # subscriptions and consumers, as the meters have them
        self._expiry: Timer | None = None
        self._slowed: Timer | None = None  # until its client may publish again
        self._set_expiry()

    def check(self, action: Action, resource: str) -> None:
        """Raise NotAuthorized unless allowed; a refusal is told to the watcher."""
        ruling = self.ruling(action, resource)
        if not ruling.allowed:
            raise self.authority.refuse(self.principal, self.origin, action, resource, ruling)

    def may(self, action: Action, resource: str) -> bool:
        """Tell whether it is allowed, for lists that leave out what is not."""
        return self.ruling(action, resource).allowed

    def ruling(self, action: Action, resource: str) -> Ruling:
        """Return what was decided, now or earlier."""
        if self.ended:
            return ENDED
        remembered = self._rulings
        if remembered is not None:
            ruling = remembered.get((action, resource))
            if ruling is not None:
                return ruling
        if action is Action.SUBSCRIBE and resource.startswith(REPLY_PREFIX):  # whatever rules say
            own = self.reply_to and f"{resource}/".startswith(f"{self.reply_to}/")
            return OWN_REPLIES if own else OTHERS_REPLIES
        ruling = self.authority.decide(self.principal, self.origin, action, resource)
        if remembered is None or len(remembered) >= RULINGS_CACHED_MAX:
            remembered = self._rulings = {}
        remembered[(action, resource)] = ruling
        return ruling

    def check_consume(self, queue_name: str, group: str = "") -> None:
        """Raise NotAuthorized unless this session may compete for a queue, declared or shared."""
        if is_share(queue_name):
            self.check(Action.SUBSCRIBE, shared_filter(queue_name))
            return
        check_declared(queue_name)
        self.check(Action.CONSUME, group_resource(queue_name, group) if group else queue_resource(queue_name))

    def may_see(self, queue_name: str) -> bool:
        """Tell whether this session may look at a queue: whoever uses it or manages it may."""
        resource = queue_resource(queue_name)
        return any(self.may(action, resource) for action in (Action.VIEW, Action.CONSUME, Action.MANAGE))

    def check_see(self, queue_name: str) -> None:
        """Raise NotAuthorized unless this session may look at a queue."""
        if not self.may_see(queue_name):
            self.check(Action.VIEW, queue_resource(queue_name))

    def changed(self, what: str, resource: str, detail: str = "") -> None:
        """Tell the watcher of an administrative change, such as `queue.delete` of `$queue/jobs`."""
        self.authority.watcher.changed(self.principal, self.origin, what, resource, detail)

    def trim(self) -> None:
        """Give back the memory of what was decided, where sessions are many; it is asked again."""
        self._rulings = None

    def forget_rulings(self) -> None:
        """Rules have changed: ask again."""
        self._rulings = None
        self.publishable = _NOTHING
        quotas, now_ms = self.authority.quotas, self.broker.clock.monotonic_ms
        self.meters = quotas.renew(self.meters, self.principal, self.origin, self._use, now_ms)

    def renew(self, principal: Principal) -> None:
        """The client has authenticated again: what it may do is asked again."""
        self.principal = principal
        self._set_expiry()
        self.forget_rulings()
        self.review()

    def review(self) -> None:
        """Give up what is not allowed any more."""
        raise NotImplementedError

    def end(self, error: GatewayError) -> None:
        """Have the client told why, and cut off; nothing is allowed any more."""
        self.ended = True
        self.publishable = _NOTHING
        if self.owner is not None:
            self.owner.end(error)

    def _set_expiry(self) -> None:
        scheduler, at_ms = self.broker.scheduler, self.principal.expires_at_ms
        scheduler.cancel(self._expiry)
        self._expiry = None
        if at_ms:
            delay_ms = max(0, at_ms - self.broker.clock.wall_ms)
            self._expiry = scheduler.after(delay_ms, self._expired)

    def _expired(self) -> None:
        error = AuthenticationFailed("the login has expired; authenticate again")
        self.end(error)

    def leave(self) -> None:
        """The session is over: it counts no more, and what is still to come in its name is asked anew."""
        self.authority.sessions.discard(self)
        if self.reply_to:
            self.broker.replies.close(self.reply_to)
        self._rulings = None
        self.publishable = _NOTHING
        self.authority.quotas.close(self.meters, self._use)
        self.meters = ()
        self._use = 0
        self.owner = None
        self.broker.scheduler.cancel(self._expiry)
        self.broker.scheduler.cancel(self._slowed)

    # -- publishing and using -----------------------------------------------------------------

    def admit(self, message: Message) -> None:
        """Raise unless this session may publish a message, and may publish so much: that is counted."""
        self.check_publish(message.topic)
        self.charge(message)

    def charge(self, message: Message) -> None:
        """Count a message. Raise QuotaExceeded if this session may not publish so much."""
        if self.meters:
            try:
                self._spend(message)
            except QuotaExceeded:
                self.refused(DropCause.QUOTA_EXCEEDED)
                raise

    def admitted(self, message: Message) -> Message | None:
        """Return a message as it may be published: `admit`, then interceptors; None: it is dropped."""
        self.admit(message)
        return message

    def check_publish(self, topic: str) -> None:
        """Raise NotAuthorized or InvalidTopic unless this session may publish to a topic: that is counted."""
        if topic in self.publishable:
            return
        try:
            check_open(topic)
            if topic not in self.broker.replies.queues:
                self.check(Action.PUBLISH, topic)
        except GatewayError as error:
            denied = isinstance(error, NotAuthorized)
            self.refused(DropCause.NOT_AUTHORIZED if denied else DropCause.INVALID)
            raise
        if any(meter.limits.metered for meter in self.meters):
            return  # so that every publish passes `admit`
        if self.broker.dedup.rules and self.broker.dedup.ruled(topic) is not None:
            return  # and every message id is looked at
        known = self.publishable
        if not isinstance(known, set) or len(known) >= RULINGS_CACHED_MAX:
            known = self.publishable = set()
        known.add(topic)

    def refused(self, cause: DropCause) -> None:
        """Count a publish that is refused."""
        self.broker.metrics.refuse(cause)

    def _spend(self, message: Message) -> None:
        quotas, now_ms, size = self.authority.quotas, self.broker.clock.monotonic_ms, len(message.body)
        for meter in self.meters:
            if meter.limits.metered:
                wait_ms = meter.wait_ms(now_ms)
                if wait_ms and not self.in_debt:
                    raise quotas.exceed(meter, "publish_rate", "publishes faster than it may", wait_ms)
                if message.retain and message.body:
                    self._check_retained(meter, message.topic)
        for meter in self.meters:
            if meter.limits.metered:
                meter.spend(size)
                if meter.retained is not None and message.retain and message.body:
                    meter.retained.add(message.topic)
                    meter.recounted = self.broker.retained.count + 1  # with this one

    def _check_retained(self, meter: Meter, topic: str) -> None:
        limit = meter.limits.retained
        if not limit or self.broker.retained.get(topic) is not None:
            return
        store, now_ms = self.broker.retained, self.broker.clock.monotonic_ms
        fewer = store.count < meter.recounted or now_ms >= meter.recount_ms
        if meter.retained is None or (len(meter.retained) >= limit and fewer):
            # Others may have cleared some; to look takes long, and a client over its quota comes again.
            meter.retained = {message.topic for message in store.all() if meter.owns(message.origin)}
            meter.recount_ms, meter.recounted = now_ms + RECOUNT_MS, store.count
        self.authority.quotas.check(meter, "retained", len(meter.retained), limit)

    def overdraft_ms(self) -> int:
        """Return for how long no more is to be read from a client in debt; 0: read on."""
        now_ms = self.broker.clock.monotonic_ms
        found = 0
        for meter in self.meters:
            if meter.limits.metered:
                wait_ms = meter.wait_ms(now_ms)
                if wait_ms:
                    self.authority.quotas.exceed(meter, "publish_rate", "is made to wait")
                    found = max(found, wait_ms)
        return found

    @property
    def held_back(self) -> bool:
        """Whether its client is held back, and cannot be heard."""
        return self._slowed is not None

    def pace(self, hold: Callable[[bool], None]) -> None:
        """Hold a client in debt back: `hold(True)` now if it has to wait, `hold(False)` when it is over."""
        wait_ms = self.overdraft_ms()
        if wait_ms and self._slowed is None:
            self._slowed = self.broker.scheduler.after(wait_ms, lambda: self._go_on(hold))
            hold(True)

    def _go_on(self, hold: Callable[[bool], None]) -> None:
        self._slowed = None
        hold(False)

    def check_use(self) -> None:
        """Raise QuotaExceeded if the client has as many subscriptions as it may."""
        for meter in self.meters:
            limit = meter.limits.subscriptions
            self.authority.quotas.check(meter, "subscriptions", meter.subscriptions, limit)

    def count_use(self, use: int) -> None:
        """Note how many subscriptions and consumers there are now."""
        for meter in self.meters:
            meter.subscriptions += use - self._use
        self._use = use

    def check_queues(self) -> None:
        """Raise QuotaExceeded if the client has made as many queues as it may."""
        for meter in self.meters:
            limit = meter.limits.queues
            if limit:
                made = self.broker.catalog.queues.values()
                used = sum(1 for queue in made if queue.creator is not None and meter.owns(queue.creator))
                self.authority.quotas.check(meter, "queues", used, limit)
