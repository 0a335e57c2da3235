"""A complete third-party protocol: `PUB topic text` and `SUB filter`, one a line."""

from collections.abc import Iterable

from gateway import Credentials, GatewayError, Message, Session, hookimpl
from gateway.api import Gateway, Item, Protocol, Stream, StreamProtocol

LINE_BYTES_MAX = 65_536  # a longer line is no command


class LineProtocol(StreamProtocol):
    name = "line"
    address = "127.0.0.1:7000"

    async def handle(self, stream: Stream, gateway: Gateway) -> None:
        session = await gateway.connect(Credentials(self.name, stream.peer, client_id=stream.peer))

        def deliver(batch: list[Item]) -> None:
            stream.write(b"".join(b"%s %s\n" % (m.topic.encode(), m.body) for m, _ in batch))

        session.receive(deliver)
        stream.hold_back(session)
        stream.established()
        buffer = b""
        try:
            while data := await stream.read():
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    stream.write(self.obey(line.decode("utf-8", "replace"), session))
                if len(buffer) > LINE_BYTES_MAX:
                    return
        finally:
            session.close()

    def obey(self, line: str, session: Session) -> bytes:
        try:
            match line.split(" ", 2):
                case ["PUB", topic, text]:
                    session.publish(Message(topic, text.encode(), qos=0))
                case ["SUB", topic_filter]:
                    session.subscribe(topic_filter)
                case _:
                    return b"ERROR expected: PUB topic text, or SUB filter\n"
        except GatewayError as error:
            return b"ERROR %s\n" % error.detail.encode()
        return b"OK\n"


@hookimpl
def gateway_protocols() -> Iterable[Protocol]:
    return [LineProtocol()]
