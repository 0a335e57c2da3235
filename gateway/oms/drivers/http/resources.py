"""Queues by the door's own API: a queue is a topic, with a queue of the gateway's for each group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from gateway.oms.driver import Resources
from gateway.oms.errors import OMSDestinationError, OMSError, ResponseStatus
from gateway.oms.key_value import Value
from gateway.oms.keys import GROUP_DEFAULT, OPERATION_TIMEOUT_MS_DEFAULT, BuiltinKeys
from gateway.oms.names import DIRECT, SHARE, share_of, topic_of_share

from .connection import segment

if TYPE_CHECKING:
    from .driver import HttpDriver

PAGE: Final = 1000
#: Attributes that are texts, and lists of numbers; the others are numbers, or true and false.
TEXTS: Final = frozenset(("overflow", "dead_letter", "durability"))
LISTS: Final = frozenset(("backoff_ms",))
_FLAGS: Final = {"true": True, "false": False}


class HttpResources(Resources):
    """What the resource manager of this driver does."""

    def __init__(self, driver: HttpDriver) -> None:
        self._driver = driver
        self._connection = driver.connection
        timeout_ms = driver.attributes.get_int(BuiltinKeys.OPERATION_TIMEOUT, OPERATION_TIMEOUT_MS_DEFAULT)
        self._timeout = timeout_ms / 1000

    async def create_queue(self, queue: str, attributes: Mapping[str, Value]) -> None:
        topic = self._topic(queue)
        if await self._queues(topic):
            raise OMSDestinationError(f"queue {queue!r} exists already", ResponseStatus.DESTINATION_EXISTS)
        wanted = {"policy": _policy(attributes)} if attributes else {}
        await self._rest("PUT", self._path(share_of(GROUP_DEFAULT, topic)), wanted)

    async def delete_queue(self, queue: str) -> None:
        for found in await self._existing(queue):
            await self._rest("DELETE", self._path(found["name"]))

    async def list_queues(self, namespace: str) -> list[str]:
        prefix = f"{namespace}/" if namespace else ""
        topics = {topic_of_share(found["name"]) or _topic_of_stream(found) for found in await self._all()}
        return sorted(topic[len(prefix) :] for topic in topics if topic and topic.startswith(prefix))

    async def queue_attributes(self, queue: str) -> dict[str, Value]:
        policy = (await self._of_groups(queue))[0]["policy"]
        return {name.upper(): _shown(value) for name, value in policy.items()}

    async def set_queue_attributes(self, queue: str, attributes: Mapping[str, Value]) -> None:
        changes = _policy(attributes)
        for found in await self._of_groups(queue):
            wanted = {"policy": {**found["policy"], **changes}}
            await self._rest("PUT", self._path(found["name"]) + "?update=true", wanted)

    async def list_streams(self, queue: str) -> list[int]:
        await self._existing(queue)
        return [0]

    # -- queues of the gateway --------------------------------------------------------------------------

    def _topic(self, queue: str) -> str:
        topic = self._driver.topic_of(queue)
        if topic.startswith(DIRECT):
            raise OMSDestinationError(
                f"{queue!r} is the gateway's own, and managed by its API", ResponseStatus.BAD_PARAMETER
            )
        return topic

    async def _all(self) -> list[dict[str, Any]]:
        """Return all groups' queues, and all streams: what else there is has no topic of its own."""
        found = await self._pages(SHARE)
        return found + [each for each in await self._pages("") if _topic_of_stream(each)]

    async def _pages(self, prefix: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        after: str | None = ""
        while after is not None:
            query = f"prefix={segment(prefix)}&after={segment(after)}&limit={PAGE}"
            page = await self._rest("GET", f"/v1/queues?{query}")
            found += page["queues"]
            after = page["next"]
        return found

    async def _queues(self, topic: str) -> list[dict[str, Any]]:
        """Return the groups' queues of a topic and its stream, the default group's first."""
        first = share_of(GROUP_DEFAULT, topic)
        found = [
            each
            for each in await self._all()
            if topic in (topic_of_share(each["name"]), _topic_of_stream(each))
        ]
        return sorted(found, key=lambda each: (each["name"] != first, each["name"]))

    async def _existing(self, queue: str) -> list[dict[str, Any]]:
        found = await self._queues(self._topic(queue))
        if not found:
            raise OMSDestinationError(f"there is no queue {queue!r}")
        return found

    async def _of_groups(self, queue: str) -> list[dict[str, Any]]:
        found = [each for each in await self._existing(queue) if topic_of_share(each["name"])]
        if not found:
            raise OMSDestinationError(f"queue {queue!r} has a stream alone")
        return found

    def _path(self, name: str) -> str:
        return f"/v1/queues/{segment(name)}"

    async def _rest(self, method: str, path: str, found: Any = None) -> Any:
        return await self._connection.rest(method, path, self._timeout, found)


def _topic_of_stream(found: dict[str, Any]) -> str:
    """Return the topic of a stream that is its topic's; "" for any other queue."""
    name: str = found["name"]
    return name if found["kind"] == "stream" and found["bindings"] == [name] else ""


def _shown(value: Any) -> Value:
    return ",".join(str(part) for part in value) if isinstance(value, list) else value


def _policy(attributes: Mapping[str, Value]) -> dict[str, Any]:
    """Return what attributes say as the door's policies have it; what is none there the door refuses."""
    return {name.lower(): _read(name.lower(), value) for name, value in attributes.items()}


def _read(name: str, value: Value) -> Any:
    if name in TEXTS or not isinstance(value, str):
        return value
    try:
        if name in LISTS:
            return [int(part) for part in value.split(",") if part.strip()]
        return _FLAGS[value.lower()] if value.lower() in _FLAGS else int(value)
    except ValueError:
        raise OMSError(f"attribute {name.upper()}: {value!r} is none", ResponseStatus.BAD_REQUEST) from None
