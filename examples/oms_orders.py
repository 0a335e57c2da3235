"""OpenMessaging by any driver: a producer, a pull consumer that takes batches, a push consumer that retries.

python examples/oms_orders.py                                        # a gateway in this process
python examples/oms_orders.py --url oms:rocketmq://127.0.0.1:8081/here   # gateway serve --dev
"""

from __future__ import annotations

import argparse
import asyncio

from gateway.oms import ListenerContext, Message, get_access_point

ORDERS = 20


async def main(url: str) -> None:
    shipped: list[str] = []
    everything = asyncio.Event()

    async def ship(message: Message, context: ListenerContext) -> None:
        if message.text == "order 13" and message.header.delivery_count == 1:
            raise ConnectionError("the carrier does not answer")  # so it comes again
        shipped.append(message.text)
        if len(shipped) == ORDERS:
            everything.set()

    async with (
        get_access_point(url) as access_point,
        access_point.create_producer() as producer,
        access_point.create_push_consumer(consumer_id="shipping", retry_delay=100) as shipping,
        access_point.create_pull_consumer(consumer_id="billing") as billing,
    ):
        await shipping.bind_queue("orders", ship)
        await billing.bind_queue("orders")
        await producer.send(
            [
                producer.create_message("orders", f"order {number}", properties={"total": number * 10})
                for number in range(ORDERS)
            ]
        )
        billed = 0
        while billed < ORDERS:
            for message in await billing.batch_receive(8, timeout=20):
                assert message.receipt is not None
                await billing.ack(message.receipt)
                billed += 1
        async with asyncio.timeout(30):
            await everything.wait()
    print(f"{billed} orders billed, {len(shipped)} shipped, one of them at the second attempt")
    assert sorted(shipped) == sorted(f"order {number}" for number in range(ORDERS))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="oms:local://memory/here")
    asyncio.run(main(parser.parse_args().url))
