"""The line protocol stands what every protocol must stand, and a few things of its own."""

from gateway_line import LINE_BYTES_MAX, LineProtocol

from gateway.testing import FakeClient, ProtocolContract


class TestContract(ProtocolContract):
    def make(self) -> LineProtocol:
        return LineProtocol()

    def publish(self, topic: str, body: bytes) -> bytes:
        return b"PUB %s %s\n" % (topic.encode(), body)

    def subscribe(self, topic: str) -> bytes:
        return b"SUB %s\n" % topic.encode()

    def delivered(self, topic: str, body: bytes) -> bytes:
        return b"%s %s\n" % (topic.encode(), body)

    def test_it_is_under_sixty_lines(self) -> None:
        import gateway_line

        with open(gateway_line.__file__, encoding="utf-8") as source:
            assert len(source.readlines()) < 60

    def test_nonsense_is_answered_and_the_connection_lives(self) -> None:
        with self.gateway() as (gateway, protocol):
            client = FakeClient(gateway, protocol)
            assert client.send(b"HELLO\n").startswith(b"ERROR expected")
            assert client.send(b"PUB a+ x\n").startswith(b"ERROR topic")
            assert client.send(b"SUB t\nPUB t x\n").endswith(b"t x\n")

    def test_a_line_without_end_is_cut_off(self) -> None:
        with self.gateway() as (gateway, protocol):
            client = FakeClient(gateway, protocol)
            client.send(b"x" * (LINE_BYTES_MAX + 1))
            client.received()
            assert client.transport.closed
