"""Danbao's gateway: one typed settings file becomes one Envoy configuration."""

from danbao_gateway.bootstrap import render
from danbao_gateway.settings import GatewaySettings

__all__ = ["GatewaySettings", "render"]
