"""OpenMessaging: read what was there before, forwards and backwards, and follow what comes.

python examples/oms_streaming.py                        # or --url oms:rocketmq://127.0.0.1:8081/here
"""

from __future__ import annotations

import argparse
import asyncio

from gateway.oms import get_access_point


async def main(url: str) -> None:
    async with (
        get_access_point(url) as access_point,
        access_point.create_streaming_consumer() as reader,
        access_point.create_producer() as producer,
    ):
        newest = await reader.seek_to_end("prices")
        for price in (101, 99, 104):
            await producer.send(producer.create_message("prices", str(price)))

        forth = [message.text for message in [await newest.next(timeout=20) for _ in range(3)] if message]
        back = []
        while (message := await newest.previous()) is not None and len(back) < 3:
            back.append(message.text)

        again = await reader.seek("prices", newest.next_position)
        follow = asyncio.create_task(anext(aiter(await reader.seek_to_end("prices"))))
        await producer.send(producer.create_message("prices", "105"))
        live = await asyncio.wait_for(follow, 20)
    print(f"forwards {forth}, back {back}, then {live.text} as it came; positions from {again.next_position}")
    assert (forth, back, live.text) == (["101", "99", "104"], ["104", "99", "101"], "105")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="oms:local://memory/here")
    asyncio.run(main(parser.parse_args().url))
