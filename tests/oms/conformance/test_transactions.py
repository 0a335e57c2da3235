"""Transactions: unseen until their producer says commit, and asked about when it says nothing."""

from __future__ import annotations

import pytest

from gateway.oms import Feature, Message, MessagingAccessPoint, OMSTransactionError, TransactionCheck
from tests.oms.conformance.helpers import clients, data, needs, nothing, take, until


def unasked(message: Message, check: TransactionCheck) -> None:
    """A checker that is never called here."""


@needs(Feature.TRANSACTIONS)
async def test_commit_and_rollback(access_point: MessagingAccessPoint, queue: str) -> None:
    async with clients(access_point, queue) as (_, consumer):
        async with access_point.create_producer(unasked) as producer:
            first = await producer.prepare(producer.create_message(queue, "committed", tag="t"))
            second = await producer.prepare(producer.create_message(queue, "rolled back"))
            assert first.transaction_id != second.transaction_id
            await nothing(consumer)
            await first.commit()
            await second.rollback()
            got = (await take(consumer, 1))[0]
            assert (got.data, got.extension_header.tag) == (b"committed", "t")
            assert got.header.message_id == first.message_id
            assert got.extension_header.transaction_id == first.transaction_id
            await nothing(consumer)


@needs(Feature.TRANSACTIONS)
async def test_the_same_end_twice_and_the_other(access_point: MessagingAccessPoint, queue: str) -> None:
    async with clients(access_point, queue) as (_, consumer):
        async with access_point.create_producer(unasked) as producer:
            result = await producer.prepare(producer.create_message(queue, "x"))
            await result.commit()
            await result.commit()
            with pytest.raises(OMSTransactionError):
                await result.rollback()
            await take(consumer, 1)
            await nothing(consumer)


@needs(Feature.TRANSACTIONS)
async def test_as_a_context(access_point: MessagingAccessPoint, queue: str) -> None:
    async with clients(access_point, queue) as (_, consumer):
        async with access_point.create_producer(unasked) as producer:
            async with await producer.prepare(producer.create_message(queue, "a")):
                pass
            with pytest.raises(LookupError):
                async with await producer.prepare(producer.create_message(queue, "b")):
                    raise LookupError
            async with await producer.prepare(producer.create_message(queue, "c")) as own:
                await own.rollback()
            assert data(await take(consumer, 1)) == [b"a"]
            await nothing(consumer)


@needs(Feature.TRANSACTIONS)
async def test_without_a_checker_there_are_none(access_point: MessagingAccessPoint, queue: str) -> None:
    async with access_point.create_producer() as producer:
        with pytest.raises(OMSTransactionError):
            await producer.prepare(producer.create_message(queue, "x"))


@needs(Feature.TRANSACTIONS, Feature.CHECK_BACK)
async def test_who_says_nothing_is_asked(access_point: MessagingAccessPoint, queue: str) -> None:
    asked: list[tuple[bytes, str | None]] = []

    async def checker(message: Message, check: TransactionCheck) -> None:
        asked.append((message.data, message.extension_header.transaction_id))
        if message.data == b"commit":
            check.commit()
        elif message.data == b"rollback":
            check.rollback()
        else:
            raise LookupError("counts as unknown")

    async with clients(access_point, queue) as (_, consumer):
        async with access_point.create_producer(checker, check_delay=200) as producer:
            results = [
                await producer.prepare(producer.create_message(queue, text))
                for text in ("commit", "rollback", "unknown")
            ]
            assert data(await take(consumer, 1)) == [b"commit"]
            await until(lambda: len(asked) == 3)
            assert sorted(asked) == sorted(
                (text, result.transaction_id)
                for text, result in zip((b"commit", b"rollback", b"unknown"), results, strict=True)
            )
            await nothing(consumer)
            await results[2].commit()
            assert data(await take(consumer, 1)) == [b"unknown"]
