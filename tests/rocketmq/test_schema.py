"""The schema against the official client's: the same fields, numbers, types and procedures."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("google.protobuf")

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from gateway.rocketmq.numbers import ENUMS
from gateway.rocketmq.schema import CLASSES
from gateway.rocketmq.tables import PACKAGE, PROCEDURES
from tests.peers import require

FILES = ("definition_pb2.py", "service_pb2.py")
FIELD_FACTS = ("number", "type", "has_presence", "is_repeated")


def _descriptors() -> list[descriptor_pb2.FileDescriptorProto]:
    """Read what the client was generated from, without running any of it: its import writes files."""
    spec = importlib.util.find_spec("rocketmq")
    require("rocketmq-python-client", spec is not None)
    assert spec is not None
    assert spec.origin is not None
    found = []
    for name in FILES:
        source = (Path(spec.origin).parent / "grpc_protocol" / name).read_text()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "AddSerializedFile":
                assert isinstance(node.args[0], ast.Constant)
                found.append(descriptor_pb2.FileDescriptorProto.FromString(node.args[0].value))
    return found


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    """Their classes by name, in a pool of their own."""
    pool = descriptor_pool.DescriptorPool()
    from google.protobuf import duration_pb2, timestamp_pb2

    for module in (duration_pb2, timestamp_pb2):
        shared = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(shared)
        pool.Add(shared)
    names = []
    for file in _descriptors():
        pool.Add(file)
        names += [message.name for message in file.message_type]
    find = pool.FindMessageTypeByName
    return {name: message_factory.GetMessageClass(find(f"{PACKAGE}.{name}")) for name in names}


def _facts(field: Any) -> tuple[Any, ...]:
    of = field.message_type or field.enum_type
    # Their map's entry is called after its field, as ours is.
    name = of.full_name if of is not None else ""
    oneof = field.containing_oneof.name if field.containing_oneof is not None else ""
    return (*(getattr(field, fact) for fact in FIELD_FACTS), name, oneof)


def test_messages_are_theirs(theirs: dict[str, Any]) -> None:
    assert set(CLASSES) == set(theirs)
    for name, ours in CLASSES.items():
        mine = {field.name: _facts(field) for field in ours.DESCRIPTOR.fields}
        assert mine == {field.name: _facts(field) for field in theirs[name].DESCRIPTOR.fields}, name


def test_enumerations_are_theirs() -> None:
    found = {}
    for file in _descriptors():
        enums = [("", enum) for enum in file.enum_type]
        enums += [(f"{message.name}.", enum) for message in file.message_type for enum in message.enum_type]
        for prefix, enum in enums:
            found[prefix + enum.name] = {value.name: value.number for value in enum.value}
    assert found == {name: {one.name: one.value for one in numbers} for name, numbers in ENUMS.items()}


def test_procedures_are_theirs() -> None:
    found = set()
    for file in _descriptors():
        for service in file.service:
            assert service.name == "MessagingService"
            for method in service.method:
                types = (method.input_type.split(".")[-1], method.output_type.split(".")[-1])
                found.add((method.name, *types, method.client_streaming, method.server_streaming))
    assert found == {tuple(procedure) for procedure in PROCEDURES}


def _filled(cls: Any, depth: int = 4) -> Any:
    """Return a message with something in each field."""
    message = cls()
    for field in cls.DESCRIPTOR.fields:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, field.name)["a key"] = "a value"
        elif field.message_type is not None:
            if depth:
                inner = _filled(message_factory.GetMessageClass(field.message_type), depth - 1)
                if field.is_repeated:
                    getattr(message, field.name).append(inner)
                else:
                    getattr(message, field.name).CopyFrom(inner)
        else:
            value: Any = {"string": "text", "bytes": b"\x00\xff"}.get(_kind(field), 1)
            if field.is_repeated:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)
    return message


def _kind(field: Any) -> str:
    return {field.TYPE_STRING: "string", field.TYPE_BYTES: "bytes"}.get(field.type, "")


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_bytes_are_read_as_they_write_them(name: str, theirs: dict[str, Any]) -> None:
    written = _filled(theirs[name]).SerializeToString(deterministic=True)
    ours = CLASSES[name].FromString(written)
    assert ours.SerializeToString(deterministic=True) == written
    assert _filled(CLASSES[name]).SerializeToString(deterministic=True) == written
