"""The JSON API as an OpenAPI 3 document, made from the contracts."""

from danbao_gateway.openapi.document import document

__all__ = ["document"]
