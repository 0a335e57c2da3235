"""The messages and procedures of RocketMQ 5's gRPC protocol, as a table in a notation of our own.

A field is `name type number`. A mark after the type: `*` repeated, `?` optional with presence, `|name` a
member of that oneof. `map` is a map of strings to strings. `gateway.rocketmq.schema` makes classes of it; a
test compares what these write with what the official client's do.
"""

from __future__ import annotations

from typing import Final, NamedTuple

PACKAGE: Final = "apache.rocketmq.v2"
SERVICE: Final = f"{PACKAGE}.MessagingService"

MESSAGES: Final[dict[str, str]] = {
    "FilterExpression": "type FilterType 1, expression string 2",
    "RetryPolicy": (
        "max_attempts int32 1, exponential_backoff ExponentialBackoff|strategy 2, "
        "customized_backoff CustomizedBackoff|strategy 3"
    ),
    "ExponentialBackoff": "initial Duration 1, max Duration 2, multiplier float 3",
    "CustomizedBackoff": "next Duration* 1",
    "Resource": "resource_namespace string 1, name string 2",
    "SubscriptionEntry": "topic Resource 1, expression FilterExpression 2",
    "Address": "host string 1, port int32 2",
    "Endpoints": "scheme AddressScheme 1, addresses Address* 2",
    "Broker": "name string 1, id int32 2, endpoints Endpoints 3",
    "MessageQueue": (
        "topic Resource 1, id int32 2, permission Permission 3, broker Broker 4, "
        "accept_message_types MessageType* 5"
    ),
    "Digest": "type DigestType 1, checksum string 2",
    "SystemProperties": (
        "tag string? 1, keys string* 2, message_id string 3, body_digest Digest 4, "
        "body_encoding Encoding 5, message_type MessageType 6, born_timestamp Timestamp 7, "
        "born_host string 8, store_timestamp Timestamp? 9, store_host string 10, "
        "delivery_timestamp Timestamp? 11, receipt_handle string? 12, queue_id int32 13, "
        "queue_offset int64? 14, invisible_duration Duration? 15, delivery_attempt int32? 16, "
        "message_group string? 17, trace_context string? 18, "
        "orphaned_transaction_recovery_duration Duration? 19, dead_letter_queue DeadLetterQueue? 20, "
        "lite_topic string? 21, priority int32? 22"
    ),
    "DeadLetterQueue": "topic string 1, message_id string 2",
    "Message": (
        "topic Resource 1, user_properties map 2, system_properties SystemProperties 3, body bytes 4"
    ),
    "Assignment": "message_queue MessageQueue 1",
    "Status": "code Code 1, message string 2",
    "UA": "language Language 1, version string 2, platform string 3, hostname string 4",
    "Settings": (
        "client_type ClientType? 1, access_point Endpoints? 2, backoff_policy RetryPolicy? 3, "
        "request_timeout Duration? 4, publishing Publishing|pub_sub 5, "
        "subscription Subscription|pub_sub 6, user_agent UA 7, metric Metric 8"
    ),
    "Publishing": "topics Resource* 1, max_body_size int32 2, validate_message_type bool 3",
    "Subscription": (
        "group Resource? 1, subscriptions SubscriptionEntry* 2, fifo bool? 3, "
        "receive_batch_size int32? 4, long_polling_timeout Duration? 5, "
        "lite_subscription_quota int32? 6, max_lite_topic_size int32? 7"
    ),
    "Metric": "on bool 1, endpoints Endpoints? 2",
    "OffsetOption": (
        "policy OffsetOption.Policy|offset_type 1, offset int64|offset_type 2, "
        "tail_n int64|offset_type 3, timestamp int64|offset_type 4"
    ),
    "QueryRouteRequest": "topic Resource 1, endpoints Endpoints 2",
    "QueryRouteResponse": "status Status 1, message_queues MessageQueue* 2",
    "SendMessageRequest": "messages Message* 1",
    "SendResultEntry": (
        "status Status 1, message_id string 2, transaction_id string 3, offset int64 4, "
        "recall_handle string 5"
    ),
    "SendMessageResponse": "status Status 1, entries SendResultEntry* 2",
    "QueryAssignmentRequest": "topic Resource 1, group Resource 2, endpoints Endpoints 3",
    "QueryAssignmentResponse": "status Status 1, assignments Assignment* 2",
    "ReceiveMessageRequest": (
        "group Resource 1, message_queue MessageQueue 2, filter_expression FilterExpression 3, "
        "batch_size int32 4, invisible_duration Duration? 5, auto_renew bool 6, "
        "long_polling_timeout Duration? 7, attempt_id string? 8"
    ),
    "ReceiveMessageResponse": (
        "status Status|content 1, message Message|content 2, delivery_timestamp Timestamp|content 3"
    ),
    "AckMessageEntry": "message_id string 1, receipt_handle string 2, lite_topic string? 3",
    "AckMessageRequest": "group Resource 1, topic Resource 2, entries AckMessageEntry* 3",
    "AckMessageResultEntry": "message_id string 1, receipt_handle string 2, status Status 3",
    "AckMessageResponse": "status Status 1, entries AckMessageResultEntry* 2",
    "ForwardMessageToDeadLetterQueueRequest": (
        "group Resource 1, topic Resource 2, receipt_handle string 3, message_id string 4, "
        "delivery_attempt int32 5, max_delivery_attempts int32 6, lite_topic string? 7"
    ),
    "ForwardMessageToDeadLetterQueueResponse": "status Status 1",
    "HeartbeatRequest": "group Resource? 1, client_type ClientType 2",
    "HeartbeatResponse": "status Status 1",
    "EndTransactionRequest": (
        "topic Resource 1, message_id string 2, transaction_id string 3, "
        "resolution TransactionResolution 4, source TransactionSource 5, trace_context string 6"
    ),
    "EndTransactionResponse": "status Status 1",
    "PrintThreadStackTraceCommand": "nonce string 1",
    "ReconnectEndpointsCommand": "nonce string 1",
    "ThreadStackTrace": "nonce string 1, thread_stack_trace string? 2",
    "VerifyMessageCommand": "nonce string 1, message Message 2",
    "VerifyMessageResult": "nonce string 1",
    "RecoverOrphanedTransactionCommand": "message Message 1, transaction_id string 2",
    "NotifyUnsubscribeLiteCommand": "lite_topic string 1",
    "TelemetryCommand": (
        "status Status? 1, settings Settings|command 2, "
        "thread_stack_trace ThreadStackTrace|command 3, "
        "verify_message_result VerifyMessageResult|command 4, "
        "recover_orphaned_transaction_command RecoverOrphanedTransactionCommand|command 5, "
        "print_thread_stack_trace_command PrintThreadStackTraceCommand|command 6, "
        "verify_message_command VerifyMessageCommand|command 7, "
        "reconnect_endpoints_command ReconnectEndpointsCommand|command 8, "
        "notify_unsubscribe_lite_command NotifyUnsubscribeLiteCommand|command 9"
    ),
    "NotifyClientTerminationRequest": "group Resource? 1",
    "NotifyClientTerminationResponse": "status Status 1",
    "ChangeInvisibleDurationRequest": (
        "group Resource 1, topic Resource 2, receipt_handle string 3, invisible_duration Duration 4, "
        "message_id string 5, lite_topic string? 6, suspend bool? 7"
    ),
    "ChangeInvisibleDurationResponse": "status Status 1, receipt_handle string 2",
    "PullMessageRequest": (
        "group Resource 1, message_queue MessageQueue 2, offset int64 3, batch_size int32 4, "
        "filter_expression FilterExpression 5, long_polling_timeout Duration 6"
    ),
    "PullMessageResponse": "status Status|content 1, message Message|content 2, next_offset int64|content 3",
    "UpdateOffsetRequest": "group Resource 1, message_queue MessageQueue 2, offset int64 3",
    "UpdateOffsetResponse": "status Status 1",
    "GetOffsetRequest": "group Resource 1, message_queue MessageQueue 2",
    "GetOffsetResponse": "status Status 1, offset int64 2",
    "QueryOffsetRequest": (
        "message_queue MessageQueue 1, query_offset_policy QueryOffsetPolicy 2, timestamp Timestamp? 3"
    ),
    "QueryOffsetResponse": "status Status 1, offset int64 2",
    "RecallMessageRequest": "topic Resource 1, recall_handle string 2",
    "RecallMessageResponse": "status Status 1, message_id string 2",
    "SyncLiteSubscriptionRequest": (
        "action LiteSubscriptionAction 1, topic Resource 2, group Resource 3, "
        "lite_topic_set string* 4, version int64? 5, offset_option OffsetOption? 6"
    ),
    "SyncLiteSubscriptionResponse": "status Status 1",
}


class Procedure(NamedTuple):
    """One RPC. Its messages are called after it, but those of Telemetry."""

    name: str
    request: str
    response: str
    streams_requests: bool = False
    streams_responses: bool = False


PROCEDURES: Final = (
    Procedure("QueryRoute", "QueryRouteRequest", "QueryRouteResponse"),
    Procedure("Heartbeat", "HeartbeatRequest", "HeartbeatResponse"),
    Procedure("SendMessage", "SendMessageRequest", "SendMessageResponse"),
    Procedure("QueryAssignment", "QueryAssignmentRequest", "QueryAssignmentResponse"),
    Procedure("ReceiveMessage", "ReceiveMessageRequest", "ReceiveMessageResponse", False, True),
    Procedure("AckMessage", "AckMessageRequest", "AckMessageResponse"),
    Procedure(
        "ForwardMessageToDeadLetterQueue",
        "ForwardMessageToDeadLetterQueueRequest",
        "ForwardMessageToDeadLetterQueueResponse",
    ),
    Procedure("PullMessage", "PullMessageRequest", "PullMessageResponse", False, True),
    Procedure("UpdateOffset", "UpdateOffsetRequest", "UpdateOffsetResponse"),
    Procedure("GetOffset", "GetOffsetRequest", "GetOffsetResponse"),
    Procedure("QueryOffset", "QueryOffsetRequest", "QueryOffsetResponse"),
    Procedure("EndTransaction", "EndTransactionRequest", "EndTransactionResponse"),
    Procedure("Telemetry", "TelemetryCommand", "TelemetryCommand", True, True),
    Procedure("NotifyClientTermination", "NotifyClientTerminationRequest", "NotifyClientTerminationResponse"),
    Procedure("ChangeInvisibleDuration", "ChangeInvisibleDurationRequest", "ChangeInvisibleDurationResponse"),
    Procedure("RecallMessage", "RecallMessageRequest", "RecallMessageResponse"),
    Procedure("SyncLiteSubscription", "SyncLiteSubscriptionRequest", "SyncLiteSubscriptionResponse"),
)
