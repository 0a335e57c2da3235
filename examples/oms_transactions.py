"""OpenMessaging: a message that is published if, and only if, its producer's own work was done.

The second payment's producer never says what is to become of it: it is asked, and looks into its books.

python examples/oms_transactions.py                     # or --url oms:rocketmq://127.0.0.1:8081/here
"""

from __future__ import annotations

import argparse
import asyncio

from gateway.oms import Message, TransactionCheck, get_access_point

BOOKS: dict[str, bool] = {}  # what the database of a real producer would say: payment -> done


async def look_up(message: Message, check: TransactionCheck) -> None:
    """Answer for a transaction that was left open."""
    done = BOOKS.get(message.text)
    if done is None:
        check.unknown()
    elif done:
        check.commit()
    else:
        check.rollback()


async def main(url: str) -> None:
    async with (
        get_access_point(url) as access_point,
        access_point.create_pull_consumer(consumer_id="ledger") as ledger,
        access_point.create_producer(look_up, producer_id="payments", check_delay=1000) as producer,
    ):
        await ledger.bind_queue("payments")
        for payment in ("paid", "forgotten", "failed"):
            half = await producer.prepare(producer.create_message("payments", payment))
            try:
                if payment == "failed":
                    raise OSError("the bank said no")
                BOOKS[payment] = True
                if payment == "paid":
                    await half.commit()
            except OSError:
                BOOKS[payment] = False
                await half.rollback()
        booked = []
        while len(booked) < 2:
            message = await ledger.receive(timeout=60)
            assert message is not None, "the forgotten one was not asked about"
            assert message.receipt is not None
            await ledger.ack(message.receipt)
            booked.append(message.text)
        assert await ledger.receive(timeout=0.5) is None
    print(f"booked: {' and '.join(booked)}; what failed nobody ever saw")
    assert booked == ["paid", "forgotten"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="oms:local://memory/here")
    asyncio.run(main(parser.parse_args().url))
