"""The classes of the protocol's messages, made of the tables when this is first imported.

They are in a descriptor pool of their own: the official client may live in the same process, and neither
knows of the other. Needs protobuf (the extra `openmessaging`): import it only where that is wanted.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, message_factory, timestamp_pb2

from .numbers import ENUMS
from .tables import MESSAGES, PACKAGE

_FILE: Final = "gateway/rocketmq.proto"
_FieldProto = descriptor_pb2.FieldDescriptorProto
_SCALARS: Final = {
    "string": _FieldProto.TYPE_STRING,
    "bytes": _FieldProto.TYPE_BYTES,
    "bool": _FieldProto.TYPE_BOOL,
    "int32": _FieldProto.TYPE_INT32,
    "int64": _FieldProto.TYPE_INT64,
    "float": _FieldProto.TYPE_FLOAT,
}
_SHARED: Final = {
    "Timestamp": (".google.protobuf.Timestamp", timestamp_pb2),
    "Duration": (".google.protobuf.Duration", duration_pb2),
}


def _add_enum(enums: Any, name: str, numbers: Any) -> None:
    enum = enums.add(name=name)
    for member in numbers:
        enum.value.add(name=member.name, number=member.value)


def _add_field(message: descriptor_pb2.DescriptorProto, text: str, synthetic: list[_FieldProto]) -> None:
    """Add `name type number`, see `tables`; `synthetic` gets fields whose oneof is to follow the others."""
    name, kind, number = text.split()
    field = message.field.add(name=name, number=int(number), label=_FieldProto.LABEL_OPTIONAL)
    kind, _, oneof = kind.partition("|")
    if kind.endswith("*"):
        field.label = _FieldProto.LABEL_REPEATED
    elif kind.endswith("?"):
        field.proto3_optional = True
        synthetic.append(field)
    kind = kind.rstrip("*?")
    if oneof:
        known = [one.name for one in message.oneof_decl]
        if oneof not in known:
            message.oneof_decl.add(name=oneof)
            known.append(oneof)
        field.oneof_index = known.index(oneof)
    if kind == "map":
        _make_map(message, field)
    elif kind in _SCALARS:
        field.type = _SCALARS[kind]
    elif kind in _SHARED:
        field.type, field.type_name = _FieldProto.TYPE_MESSAGE, _SHARED[kind][0]
    else:
        field.type = _FieldProto.TYPE_ENUM if kind in ENUMS else _FieldProto.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{kind}"


def _make_map(message: descriptor_pb2.DescriptorProto, field: _FieldProto) -> None:
    """Make a field a map of strings to strings: a repeated entry of key and value."""
    entry = message.nested_type.add(name=field.name.title().replace("_", "") + "Entry")
    entry.options.map_entry = True
    for number, name in enumerate(("key", "value"), 1):
        entry.field.add(
            name=name, number=number, label=_FieldProto.LABEL_OPTIONAL, type=_FieldProto.TYPE_STRING
        )
    field.label, field.type = _FieldProto.LABEL_REPEATED, _FieldProto.TYPE_MESSAGE
    field.type_name = f".{PACKAGE}.{message.name}.{entry.name}"


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name=_FILE, package=PACKAGE, syntax="proto3")
    for name, numbers in ENUMS.items():
        if "." not in name:
            _add_enum(file.enum_type, name, numbers)
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for enum, numbers in ENUMS.items():
            outer, _, inner = enum.rpartition(".")
            if outer == name:
                _add_enum(message.enum_type, inner, numbers)
        synthetic: list[_FieldProto] = []
        for text in fields.split(", "):
            if text:
                _add_field(message, text, synthetic)
        for field in synthetic:  # proto3's way to know whether a scalar was given
            field.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{field.name}")
    return file


def _classes() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    file = _file()
    for _, module in _SHARED.values():
        shared = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(shared)
        pool.Add(shared)
        file.dependency.append(shared.name)
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
        for name in MESSAGES
    }


#: Name -> class of every message: `CLASSES["SendMessageRequest"]`.
CLASSES: Final[dict[str, Any]] = _classes()

# Those that are made by hand, by name.
Address: Final = CLASSES["Address"]
Endpoints: Final = CLASSES["Endpoints"]
Message: Final = CLASSES["Message"]
MessageQueue: Final = CLASSES["MessageQueue"]
ReceiveMessageResponse: Final = CLASSES["ReceiveMessageResponse"]
Resource: Final = CLASSES["Resource"]
SendResultEntry: Final = CLASSES["SendResultEntry"]
Settings: Final = CLASSES["Settings"]
Status: Final = CLASSES["Status"]
SystemProperties: Final = CLASSES["SystemProperties"]
TelemetryCommand: Final = CLASSES["TelemetryCommand"]
