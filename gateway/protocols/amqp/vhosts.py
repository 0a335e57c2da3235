"""All virtual hosts: found again after a restart, made, deleted."""

from __future__ import annotations

from typing import Final

from gateway.api import Gateway
from gateway.core.errors import InvalidValue, StorageError
from gateway.core.queue import Queue

from . import names
from .declared import Declared
from .errors import AmqpFault, Reply
from .exchanges import Exchange
from .policies import read_policy
from .store import Store
from .vhost import Vhost

NAME_MAX: Final = 255


class Vhosts:
    """All virtual hosts by name."""

    def __init__(self, gateway: Gateway) -> None:
        self._broker = gateway.broker
        self._store = Store(gateway.broker.engine)
        self.all: dict[str, Vhost] = {}
        gateway.broker.catalog.deleted.append(self._gone)

    def declare(self, name: str) -> Vhost:
        """Return a virtual host, made if need be. Raise AmqpFault for a name that cannot be."""
        found = self.all.get(name)
        if found is None:
            if not name or "\0" in name or len(name) > NAME_MAX:
                raise AmqpFault(Reply.PRECONDITION_FAILED, f"a vhost's name has 1 to {NAME_MAX} characters")
            self._make(name)
            found = self.all[name]
            self._store.save_vhost(name, {})
            self._broker.ready.wake()
        return found

    def delete(self, name: str) -> None:
        """Delete a virtual host with its queues and exchanges. Raise AmqpFault."""
        vhost = self.all.get(name)
        if vhost is None:
            raise AmqpFault(Reply.NOT_FOUND, f"no vhost '{name}'")
        if name == names.DEFAULT_VHOST:
            raise AmqpFault(Reply.ACCESS_REFUSED, "the default vhost cannot be deleted")
        vhost.clear()
        del self.all[name]
        self._store.drop_vhost(name)
        self._broker.ready.wake()

    def get(self, name: str) -> Vhost | None:
        """Return one, or None."""
        return self.all.get(name)

    def restore(self) -> None:
        """Make what was there before the restart."""
        self._make(names.DEFAULT_VHOST)
        for name, _ in self._store.vhosts():
            self._make(name)
        for name, exchange, fields in self._store.exchanges():
            vhost = self.all.get(name)
            if vhost is not None and exchange not in vhost.exchanges:
                vhost.restore_exchange(
                    exchange,
                    fields["kind"],
                    True,
                    fields["auto_delete"],
                    fields["internal"],
                    fields["arguments"],
                )
        self._restore_queues()
        self._restore_bindings()
        for name, policy, fields in self._store.policies():
            vhost = self.all.get(name)
            if vhost is not None:
                vhost.set_policy(read_policy(policy, fields), keep=False)

    def _make(self, name: str) -> None:
        if name not in self.all:
            self.all[name] = Vhost(name, self._broker, self._store)

    def _restore_queues(self) -> None:
        for core_name, fields in self._store.queues():
            queue = self._broker.catalog.queues.get(core_name)
            name, queue_name = names.core_to_queue(core_name)
            vhost = self.all.get(name)
            if queue is None or vhost is None:
                self._store.drop_queue(core_name)
            else:
                vhost.restore_queue(queue_name, queue, fields["arguments"])

    def _restore_bindings(self) -> None:
        for name, source_name, kind, destination, key, arguments, stored in self._store.bindings():
            vhost = self.all.get(name)
            source = vhost.exchanges.get(source_name) if vhost is not None else None
            to: Declared | Exchange | None = None
            if vhost is not None and kind == "queue":
                to = vhost.find(names.core_to_queue(destination)[1])
            elif vhost is not None:
                to = vhost.exchanges.get(destination)
            if vhost is None or source is None or to is None:
                self._store.drop(stored)
            else:
                try:
                    vhost.bind(source, to, key, arguments, keep=False)
                except InvalidValue as error:  # without its selector it would leak messages, or lose them
                    why = f"the binding of {to.name!r} to {source_name!r}: {error.detail}"
                    raise StorageError(why) from error

    def _gone(self, queue: Queue) -> None:
        vhost = self.all.get(names.core_to_queue(queue.name)[0])
        if vhost is not None:
            vhost.gone(queue)
