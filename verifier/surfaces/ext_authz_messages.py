"""The messages of Envoy's ``envoy.service.auth.v3``, as far as they are used here.

A message of protocol buffers is known by the numbers of its fields, not by names: these have Envoy's, so they are the
same on the wire. The packages that carry all of Envoy's messages are large, and bring older copies of OpenTelemetry's
along, which take the place of those that traces need.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from google.protobuf import struct_pb2  # noqa: F401 - known to the pool of messages by its import
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass

_PACKAGE = "verifier.ext_authz"
_STRUCT = ".google.protobuf.Struct"
_TEXTS = "texts"
_MAP = "map of texts"

_TYPES = MappingProxyType(
    {
        "text": FieldDescriptorProto.TYPE_STRING,
        _TEXTS: FieldDescriptorProto.TYPE_STRING,
        "bytes": FieldDescriptorProto.TYPE_BYTES,
        "number": FieldDescriptorProto.TYPE_INT32,
    }
)

# Message → field → its number and its type: one of the above, a message, or several of one (with a star). Whatever else
# Envoy says is passed over.
_MESSAGES: Mapping[str, Mapping[str, tuple[int, str]]] = MappingProxyType(
    {
        "HeaderValue": {"key": (1, "text"), "value": (2, "text"), "raw_value": (3, "bytes")},
        "HeaderMap": {"headers": (1, "*HeaderValue")},
        "HttpRequest": {
            "id": (1, "text"),
            "method": (2, "text"),
            "headers": (3, _MAP),
            "path": (4, "text"),
            "host": (5, "text"),
            "scheme": (6, "text"),
            "body": (11, "text"),
            "raw_body": (12, "bytes"),
            "header_map": (13, "HeaderMap"),
        },
        "AttributeRequest": {"http": (2, "HttpRequest")},
        "AttributeContext": {"request": (4, "AttributeRequest"), "context_extensions": (10, _MAP)},
        "CheckRequest": {"attributes": (1, "AttributeContext")},
        "HeaderValueOption": {"header": (1, "HeaderValue"), "append_action": (3, "number")},
        "HttpStatus": {"code": (1, "number")},
        "Status": {"code": (1, "number"), "message": (2, "text")},  # google.rpc.Status
        "DeniedHttpResponse": {"status": (1, "HttpStatus"), "headers": (2, "*HeaderValueOption"), "body": (3, "text")},
        "OkHttpResponse": {"headers": (2, "*HeaderValueOption"), "headers_to_remove": (5, _TEXTS)},
        "CheckResponse": {
            "status": (1, "Status"),
            "denied_response": (2, "DeniedHttpResponse"),
            "ok_response": (3, "OkHttpResponse"),
            "dynamic_metadata": (4, _STRUCT),
        },
    }
)
_EITHER = MappingProxyType({"CheckResponse": ("http_response", ("denied_response", "ok_response"))})

OVERWRITE_IF_EXISTS_OR_ADD = 2
"""Of ``HeaderAppendAction``: in the place of whatever has the same name."""


def _described() -> FileDescriptorProto:
    file = FileDescriptorProto(name="verifier/ext_authz.proto", package=_PACKAGE, syntax="proto3")
    file.dependency.append("google/protobuf/struct.proto")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _add(message, field, number, kind)
        if name in _EITHER:
            group, members = _EITHER[name]
            message.oneof_decl.add(name=group)
            for member in message.field:
                if member.name in members:
                    member.oneof_index = 0
    return file


def _add(message: DescriptorProto, name: str, number: int, kind: str) -> None:
    repeated = kind.startswith("*") or kind in {_TEXTS, _MAP}
    label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label)
    if kind in _TYPES:
        field.type = _TYPES[kind]
        return
    field.type = FieldDescriptorProto.TYPE_MESSAGE
    if kind == _MAP:
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _add(entry, "key", 1, "text")
        _add(entry, "value", 2, "text")
        field.type_name = f".{_PACKAGE}.{message.name}.{entry.name}"
    else:
        field.type_name = kind if kind.startswith(".") else f".{_PACKAGE}.{kind.lstrip('*')}"


_POOL = Default()
_POOL.AddSerializedFile(_described().SerializeToString())


def _message(name: str) -> Any:
    return GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


CheckRequest: Any = _message("CheckRequest")
CheckResponse: Any = _message("CheckResponse")
DeniedHttpResponse: Any = _message("DeniedHttpResponse")
HeaderValue: Any = _message("HeaderValue")
HeaderValueOption: Any = _message("HeaderValueOption")
HttpStatus: Any = _message("HttpStatus")
OkHttpResponse: Any = _message("OkHttpResponse")
Status: Any = _message("Status")
