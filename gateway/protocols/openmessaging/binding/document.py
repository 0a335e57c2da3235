"""The binding as the door's OpenAPI document has it: a table of operations, and what their headers are."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from gateway.core.half import IMMUNITY_MS_MAX
from gateway.http_oms import FIELD_PREFIX, FIELDS, VERSION, VERSION_FIELD

from .call import RECEIPT, STRUCTURED
from .groups import EXPIRES_MS_MAX, EXPIRES_MS_MIN
from .pulling import LEASE_MS, LEASE_MS_MAX, MAX, NDJSON, POLL, WAIT_MS_MAX
from .receipts import DELAY_MS_MAX, OUTCOMES
from .streaming import END, FIRST, NEXT

_TEXT: Final = {"type": "string"}
_URL: Final = {"type": "string", "format": "uri"}
_FLAG: Final = {"type": "boolean"}


def _number(least: int, most: int, default: int | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "integer", "minimum": least, "maximum": most}
    return found if default is None else {**found, "default": default}


#: Header -> (what it means, its schema).
_HEADERS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    VERSION_FIELD: ("Of the specification", {"type": "string", "pattern": r"^1(\.[0-9A-Za-z.-]*)?$"}),
    "x-oms-consumerId": ("Consumer group; `oms.default` if there is none", _TEXT),
    "x-oms-source": ("Queue: a topic, `namespace://queue`, or `$queue/<name>`", _TEXT),
    "x-oms-ack": ("Whether each message is to be acknowledged; else it is done with when it is sent", _FLAG),
    "x-oms-waitMills": ("Milliseconds to wait for a message", _number(0, WAIT_MS_MAX, 0)),
    "x-oms-max": ("Messages at most; if it is there, the answer is a line of JSON for each", _number(1, MAX)),
    "x-oms-leaseMills": ("Milliseconds to acknowledge in", _number(1, LEASE_MS_MAX, LEASE_MS)),
    "x-oms-selector": ("Only messages of which this is true, in SQL92", _TEXT),
    "x-oms-selectorLanguage": ("Of the selector: sql (default) or tags", _TEXT),
    "x-oms-callbackURL": ("Where messages are to be pushed from now on; empty: not any more", _URL),
    POLL: ("What the client calls this poll, to end it by `DELETE polls/{poll}`", _TEXT),
    "x-oms-atomic": ("All of the batch or nothing", _FLAG),
    "x-oms-delayMills": ("Milliseconds until it is delivered again", _number(0, DELAY_MS_MAX)),
    "x-oms-outcome": (
        "`requeue`: it failed; `retry`: later, it costs no attempt; `reject`: never again",
        {"type": "string", "enum": list(OUTCOMES), "default": "requeue"},
    ),
    "x-oms-expiresMills": (
        "Milliseconds without a member until it is gone",
        _number(EXPIRES_MS_MIN, EXPIRES_MS_MAX),
    ),
    "x-oms-position": (
        "Where to begin: an offset, `earliest` (default), `latest`, or a time (RFC 3339)",
        _TEXT,
    ),
    "x-oms-producerId": ("Who is asked about the transaction; `oms.default` if there is none", _TEXT),
    "x-oms-checkAfterMills": ("Milliseconds until its producer is asked", _number(0, IMMUNITY_MS_MAX)),
    "x-oms-checkURL": ("Where it is asked, besides; the operator has to allow it", _TEXT),
}
#: What a field holds -> its schema.
_KINDS: Final[dict[type, dict[str, Any]]] = {
    str: _TEXT,
    int: {"type": "integer"},
    tuple: {"type": "array", "items": _TEXT},
}
_SOURCE: Final = ("x-oms-consumerId", "x-oms-source")
_LEASED: Final = "x-oms-leaseMills"


class Operation(NamedTuple):
    """One operation. `headers` are of its request, `body` and `found` what is sent, and answered."""

    method: str
    path: str
    summary: str
    description: str
    headers: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    body: dict[str, Any] | None = None
    found: dict[str, Any] | None = None
    nothing: str = ""  # what 204 means
    message: bool = False  # whether the request's headers are those of a message
    statuses: tuple[int, ...] = ()


_REASONS: Final = {
    400: "Malformed, or a version that is not spoken here",
    401: "Nobody vouches for this login",
    403: "Not allowed",
    404: "It does not exist",
    409: "It exists, but otherwise",
    413: "Too large",
    422: "A header or field does not fit",
    429: "The queue is full, or a quota is used up",
    500: "A bug",
    503: "The gateway is stopping",
    507: "The log could not be written",
}
_ALWAYS: Final = (400, 401, 403, 422, 429, 500)

_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
_OBJECT: Final = {"application/json": {"schema": {"type": "object"}}}
_MESSAGE: Final = {
    "version": VERSION,
    "header": {"destination": "orders", "messageId": "4711"},
    "extensionHeader": {"messageKey": "customer-8"},
    "properties": {"colour": "green"},
    "data": "aGVsbG8=",
}
_WHOLE: Final = {"schema": {"type": "object"}, "example": _MESSAGE}
_RAW: Final = {"application/octet-stream": _BINARY, STRUCTURED: _WHOLE}
_ANY: Final = {"*/*": _BINARY, STRUCTURED: _WHOLE}
_LINES: Final = {NDJSON: {"schema": {"type": "string"}, "example": _MESSAGE}}
_RECEIPTS: Final = {
    "application/json": {
        "schema": {
            "type": "object",
            "required": ["receipts"],
            "properties": {"receipts": {"type": "array", "items": {"type": "string"}}},
            "additionalProperties": False,
        }
    }
}
_FOUND: Final = {**_ANY, NDJSON: {"schema": {"type": "string"}}}
_READ: Final = {NDJSON: {"schema": {"type": "string"}}}
_STORES: Final = (404, 409, 413, 507)

OPERATIONS: Final = (
    Operation(
        "post",
        "messages",
        "Produce a message",
        "The body is the message's. `x-oms-h-destination` says where it goes. With `x-oms-h-transactionId` "
        "it is added to that transaction. Properties are headers `x-oms-p-<name>`.",
        body=_RAW,
        found=_OBJECT,
        message=True,
        statuses=_STORES,
    ),
    Operation(
        "post",
        "messages/batch",
        "Produce many messages",
        "A message a line, as JSON. What a line does not say is as the request's own headers say.",
        ("x-oms-atomic",),
        body=_LINES,
        found=_OBJECT,
        message=True,
        statuses=_STORES,
    ),
    Operation(
        "get",
        "messages",
        "Pull a message, or have messages pushed",
        "Answers with a message as it is produced, or with lines of JSON if `x-oms-max` is there. With "
        "`x-oms-ack` each has a receipt. With `x-oms-callbackURL` a webhook is made, changed, or ended.",
        (
            *_SOURCE,
            "x-oms-ack",
            "x-oms-waitMills",
            "x-oms-max",
            _LEASED,
            "x-oms-selector",
            "x-oms-selectorLanguage",
            "x-oms-callbackURL",
            POLL,
        ),
        ("x-oms-source",),
        found=_FOUND,
        nothing="There is no message; or the webhook has ended",
        statuses=(201, 404, 409, 507),
    ),
    Operation(
        "delete",
        "polls/{poll}",
        "End a poll",
        "It is answered now, with what there is. Who breaks off instead may miss what was just on its way, "
        "which then comes when its lease is over.",
        nothing="It is being answered",
        statuses=(404,),
    ),
    Operation(
        "post",
        "receipts/ack",
        "Acknowledge many",
        "The answer says which receipts are not known, or not any more.",
        body=_RECEIPTS,
        found=_OBJECT,
    ),
    Operation(
        "post",
        "receipts/extend",
        "Extend many leases",
        "The answer says which receipts are not known, or not any more.",
        (_LEASED,),
        body=_RECEIPTS,
        found=_OBJECT,
    ),
    Operation(
        "post",
        "receipts/{receipt}/ack",
        "Acknowledge",
        "The message is done with.",
        nothing="Done",
        statuses=(404,),
    ),
    Operation(
        "post",
        "receipts/{receipt}/nack",
        "Give back",
        "Have the message delivered again, or give up on it.",
        ("x-oms-outcome", "x-oms-delayMills"),
        nothing="Done",
        statuses=(404,),
    ),
    Operation(
        "post",
        "receipts/{receipt}/extend",
        "Extend a lease",
        "Start it again from now.",
        (_LEASED,),
        nothing="Done",
        statuses=(404,),
    ),
    Operation(
        "put",
        "groups",
        "Make a group",
        "What is published from now on is kept for it. One that is there is left alone; another selector "
        "replaces one that nobody is there for.",
        (*_SOURCE, "x-oms-selector", "x-oms-selectorLanguage", "x-oms-expiresMills"),
        ("x-oms-source",),
        nothing="It is there",
        statuses=(404, 409, 507),
    ),
    Operation(
        "delete",
        "groups",
        "Delete a group",
        "One that was made with `x-oms-expiresMills`; any other by whoever may manage its queue.",
        _SOURCE,
        ("x-oms-source",),
        nothing="It is gone",
        statuses=(404, 507),
    ),
    Operation(
        "get",
        "stream",
        "Read a queue by position",
        "Takes nothing from anybody. The stream of a queue is made when it is first asked for.",
        ("x-oms-source", "x-oms-position", "x-oms-max", "x-oms-waitMills"),
        ("x-oms-source",),
        found=_READ,
        nothing="There is nothing at that position yet",
        statuses=(404, 409, 507),
    ),
    Operation(
        "post",
        "transactions",
        "Prepare a transaction",
        "The body is a message that nobody gets before the transaction is committed.",
        ("x-oms-producerId", "x-oms-checkAfterMills", "x-oms-checkURL"),
        body=_RAW,
        found=_OBJECT,
        message=True,
        statuses=_STORES,
    ),
    Operation(
        "get",
        "transactions/checks",
        "Learn which transactions are to be decided",
        "Answers with the message of one that its producer has left open for long: commit, roll back, or do "
        "nothing, to be asked again.",
        ("x-oms-producerId", "x-oms-waitMills"),
        found=_ANY,
        nothing="There is none",
    ),
    Operation(
        "post",
        "transactions/{transaction}/commit",
        "Commit a transaction",
        "All of it is published at once.",
        found=_OBJECT,
        statuses=(404, 409, 507),
    ),
    Operation(
        "post",
        "transactions/{transaction}/rollback",
        "Roll a transaction back",
        "Nobody gets any of it.",
        found=_OBJECT,
        statuses=(404, 409, 507),
    ),
)


#: Method and path -> headers of the answer, besides those of a message.
_TOLD: Final[dict[tuple[str, str], dict[str, str]]] = {
    ("get", "messages"): {RECEIPT: "If `x-oms-ack` is true"},
    ("get", "stream"): {
        FIRST: "The first position that there is",
        END: "The one that the next message will have",
        NEXT: "Where to read on",
    },
}


def paths(prefix: str) -> dict[str, Any]:
    """Return the path items."""
    found: dict[str, Any] = {}
    for operation in OPERATIONS:
        found.setdefault(prefix + operation.path, {})[operation.method] = _item(operation)
    return found


def _item(operation: Operation) -> dict[str, Any]:
    item: dict[str, Any] = {
        "summary": operation.summary,
        "description": operation.description,
        "parameters": [*_path_parameters(operation.path), *_parameters(operation)],
        "responses": _responses(operation),
    }
    if operation.body is not None:
        item["requestBody"] = {"content": operation.body}
    return item


def _path_parameters(path: str) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    return [{"name": name, "in": "path", "required": True, "schema": _TEXT} for name in names]


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    found = []
    for name in (VERSION_FIELD, *operation.headers):
        text, schema = _HEADERS[name]
        required = name == VERSION_FIELD or name in operation.required
        found.append(
            {"name": name, "in": "header", "required": required, "description": text, "schema": schema}
        )
    if operation.message:
        for name, kind in FIELDS.items():
            schema = _KINDS[kind]
            found.append({"name": FIELD_PREFIX + name, "in": "header", "schema": schema})
    return found


def _responses(operation: Operation) -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    found: dict[str, Any] = {}
    if operation.found is not None:
        found["200"] = {"description": "Done", "content": operation.found}
        told = _TOLD.get((operation.method, operation.path))
        if told:
            found["200"]["headers"] = {
                name: {"description": text, "schema": _TEXT} for name, text in told.items()
            }
    if operation.nothing:
        found["204"] = {"description": operation.nothing}
    for status in sorted({*_ALWAYS, *operation.statuses}):
        if status == 201:
            found["201"] = {"description": "A webhook is made", "content": _OBJECT}
        else:
            found[str(status)] = {"description": _REASONS[status], "content": problem}
    return found
