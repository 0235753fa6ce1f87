"""The whole document: every operation that the gateway offers as JSON, who may call it, and how it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from danbao_gateway.contracts import Contracts, Method
from danbao_gateway.limits import class_of
from danbao_gateway.openapi.comments import comments
from danbao_gateway.openapi.paths import HttpForm, http_form
from danbao_gateway.openapi.schemas import Schema, Schemas, short_name
from danbao_gateway.rates import Rate, merged, shipped_limits
from danbao_gateway.roles import Rule, shipped_rules
from danbao_gateway.routes import routed_methods
from danbao_gateway.settings import GatewaySettings

TITLE = "Danbao"
ABOUT = """The trust layer of a marketplace, as JSON over HTTP: payments, escrow and credit. The same calls exist as
gRPC; this document is made from those contracts.

Field names are those of the contracts. 64-bit numbers are strings. Amounts are in minor units of their currency. Send
every change with a `request_id` of your own and, when you do not know what became of it, send it again: it is done
once, and answered alike. An error is a `google.rpc.Status`; its `reason` is also in the header `x-danbao-reason`."""

ERROR: Schema = {
    "type": "object",
    "description": "google.rpc.Status: what was wrong.",
    "required": ["code", "message"],
    "properties": {
        "code": {"type": "integer", "format": "int32", "description": "The gRPC code."},
        "message": {"type": "string"},
        "details": {
            "type": "array",
            "description": "google.rpc.ErrorInfo with the reason; where they help BadRequest, RetryInfo and others.",
            "items": {
                "type": "object",
                "required": ["@type"],
                "properties": {
                    "@type": {"type": "string", "example": "type.googleapis.com/google.rpc.ErrorInfo"},
                    "reason": {"type": "string", "example": "TRADE_STATE_INVALID"},
                    "domain": {"type": "string", "example": "danbao"},
                    "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
                },
                "additionalProperties": True,
            },
        },
    },
}


def document(settings: GatewaySettings | None = None, descriptors: FileDescriptorSet | None = None) -> dict[str, Any]:
    """An OpenAPI 3.0 document as a JSON-able dict, of what a gateway with these settings offers; of everything that is
    not internal without settings. `descriptors` carry comments; those of the installed danbao-protos unless given.
    """
    descriptors = descriptors or Contracts.with_comments()
    contracts = Contracts(descriptors)
    rules = shipped_rules() | ({} if settings is None else settings.roles)
    upstreams = {method.upstream for method in contracts.methods()} if settings is None else set(settings.upstreams)
    limits = merged(shipped_limits(), settings.rate_limits) if settings is not None else shipped_limits()
    texts = comments(descriptors)
    pool = _pool(descriptors)
    schemas = Schemas(texts)
    paths: dict[str, dict[str, Schema]] = {}
    services: dict[str, str] = {}
    for method in routed_methods(contracts.methods(), rules, upstreams):
        described = pool.FindMethodByName(method.full_name.replace("/", "."))
        form = http_form(described, schemas)
        if form is None or method.streaming:
            continue
        services[short_name(method.service_name)] = texts.get(method.service_name, "")
        method_class = class_of(method, limits.methods)
        limit = f"limit class {method_class} ({_said(limits.classes[method_class])})"
        operation = _operation(method, described, form, schemas, texts)
        operation["description"] = _description(operation["description"], rules[method.full_name], limit)
        paths.setdefault(form.path, {})[form.verb] = operation
    return {
        "openapi": "3.0.3",
        "info": {"title": TITLE, "version": "v1", "description": ABOUT},
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "tags": [{"name": name, **({"description": text} if text else {})} for name, text in services.items()],
        "paths": paths,
        "components": {
            "schemas": dict(sorted({**schemas.components, "Error": ERROR}.items())),
            "responses": {"Error": _json("The call was refused or failed.", {"$ref": "#/components/schemas/Error"})},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _pool(descriptors: FileDescriptorSet) -> DescriptorPool:
    pool = DescriptorPool()
    for file in descriptors.file:
        pool.Add(file)
    return pool


def _operation(
    method: Method, described: MethodDescriptor, form: HttpForm, schemas: Schemas, texts: Mapping[str, str]
) -> Schema:
    operation: Schema = {
        "operationId": f"{method.upstream}_{method.service}_{method.name}",
        "tags": [short_name(method.service_name)],
        "summary": method.name,
        "description": texts.get(f"{method.service_name}.{method.name}", ""),
        "responses": {
            "200": _json(
                "It is done, or was done before with this request id.", schemas.reference(described.output_type)
            ),
            "default": {"$ref": "#/components/responses/Error"},
        },
    }
    if form.parameters:
        operation["parameters"] = form.parameters
    if form.body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": form.body}}}
    return operation


def _description(text: str, rule: Rule, limit: str) -> str:
    return "\n\n".join(part for part in (text, f"Roles: {', '.join(rule)}; {limit}.") if part)


def _said(rate: Rate) -> str:
    return f"{rate.per_second} a second for each caller, {rate.burst or rate.per_second} at once"


def _json(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
