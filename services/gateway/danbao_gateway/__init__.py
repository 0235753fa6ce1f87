"""Danbao's gateway: one typed settings file becomes what Envoy reads."""

from danbao_gateway.bootstrap import render
from danbao_gateway.settings import GatewaySettings

__all__ = ["GatewaySettings", "render"]
