"""Names of user properties that have a meaning: RocketMQ's own, and those that the gateway has added."""

from __future__ import annotations

from typing import Final

#: Begins the name of a property that says the type of another, which is no text.
TYPE: Final = "$type:"
#: Begins the name of a property whose own name has another meaning.
ESCAPED: Final = "$header:"
#: Seconds until a message expires; on delivery what is left of them.
TTL: Final = "$ttl"
CORRELATION: Final = "$correlation"
IDEMPOTENCY_KEY: Final = "$idempotency-key"

#: Names of properties that are RocketMQ's own: it refuses them, and so do some of its clients.
RESERVED: Final = frozenset(
    (
        *("1ST_POP_TIME", "ARRIVE_TIME", "BORN_TIMESTAMP", "BUYER_ID", "CLUSTER", "CONSUME_START_TIME"),
        *("CORRECTION_FLAG", "CORRELATION_ID", "DELAY", "DUP_INFO", "EXTEND_UNIQ_INFO"),
        *("INNER_MULTI_QUEUE_OFFSET", "INSTANCE_ID", "KEYS", "MAX_OFFSET", "MAX_RECONSUME_TIMES"),
        *("MIN_OFFSET", "MQ2_FLAG", "MSG_REGION", "MSG_TYPE", "ORIGIN_MESSAGE_ID", "PGROUP", "POP_CK"),
        *("POP_CK_OFFSET", "PUSH_REPLY_TIME", "REAL_QID", "REAL_TOPIC", "RECONSUME_TIME"),
        *("REPLY_TO_CLIENT", "RETRY_TOPIC", "TAGS", "TIMER_DELAY_LEVEL", "TIMER_DELAY_SEC"),
        *("TIMER_DELIVER_MS", "TIMER_DEL_UNIQKEY", "TIMER_DEQUEUE_MS", "TIMER_ENQUEUE_MS", "TIMER_OUT_MS"),
        *("TIMER_ROLL_TIMES", "TRACE_ON", "TRANSFER_FLAG", "TRAN_MSG", "TRAN_PREPARED_QUEUE_OFFSET"),
        *("TTL", "UNIQ_KEY", "WAIT", "__BORNHOST"),
    )
)
