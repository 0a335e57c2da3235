"""OpenMessaging without `await`: the same API for programs that have threads, or none.

python examples/oms_sync.py                             # or --url oms:rocketmq://127.0.0.1:8081/here
"""

from __future__ import annotations

import argparse
import threading

from gateway.oms import Message, sync

THUMBNAILS = 10


def main(url: str) -> None:
    made: list[str] = []
    enough = threading.Event()

    def shrink(message: Message, context: sync.ListenerContext) -> None:
        """Run in a worker thread: it may take its time."""
        made.append(f"{message.text}.thumb")
        if len(made) == THUMBNAILS:
            enough.set()

    with (
        sync.get_access_point(url) as access_point,
        access_point.create_push_consumer(consumer_id="thumbnails", consume_concurrency=4) as consumer,
        access_point.create_producer() as producer,
    ):
        consumer.bind_queue("pictures", shrink)
        with producer.batch() as batch:  # sent together when the block ends
            for number in range(THUMBNAILS):
                batch.send(producer.create_message("pictures", f"{number}.jpg"))
        assert enough.wait(30), "not all pictures came"
    print(f"{len(made)} thumbnails: {sorted(made)[0]} ...")
    assert len(set(made)) == THUMBNAILS


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="oms:local://memory/here")
    main(parser.parse_args().url)
