"""How the contracts say each RPC is called: its name, and its HTTP method and path."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pool, json_format, message_factory

from danbao_gateway.contracts import Contracts
from danbao_local import client as _client  # noqa: F401 - registers the contracts

_VERBS = ("get", "post", "put", "patch", "delete")
_FIELD_IN_PATH = re.compile(r"\{([a-z_.]+)(?:=[^}]*)?\}")


@dataclass(frozen=True, slots=True)
class HttpRule:
    """One RPC as JSON over HTTP."""

    rpc: str
    method: str
    template: str

    def path(self, body: Mapping[str, Any]) -> str:
        """The path for a request, with a query where the method carries no body."""
        request = message_factory.GetMessageClass(_method(self.rpc).input_type)()
        json_format.ParseDict(dict(body), request)
        in_path = set(_FIELD_IN_PATH.findall(self.template))
        path = _FIELD_IN_PATH.sub(lambda match: quote(getattr(request, match[1]), safe="/"), self.template)
        if self.method != "GET":
            return path
        fields = json_format.MessageToDict(request)
        names = {field.json_name for field in request.DESCRIPTOR.fields if field.name in in_path}
        query = {name: _in_query(value) for name, value in fields.items() if name not in names}
        return f"{path}?{urlencode(query, doseq=True, quote_via=quote)}" if query else path


def _in_query(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def unary_rules() -> list[HttpRule]:
    """Every unary RPC that the gateway offers, in the order of the contracts."""
    return list(_unary_rules())


def _unary_rules() -> Iterator[HttpRule]:
    for method in Contracts.installed().methods():
        if method.streaming or method.package.startswith("danbao.testing."):
            continue
        options = _method(method.full_name).GetOptions()
        if not options.HasExtension(annotations_pb2.http):
            continue
        rule: http_pb2.HttpRule = options.Extensions[annotations_pb2.http]
        verb = next(name for name in _VERBS if getattr(rule, name))
        yield HttpRule(rpc=method.full_name, method=verb.upper(), template=getattr(rule, verb))


def _method(rpc: str) -> Any:
    return descriptor_pool.Default().FindMethodByName(rpc.replace("/", "."))
