"""Channels past the gateway, with the operator's certificate: for clocks, and for audits longer than its deadlines."""

from pathlib import Path

import grpc

from danbao_kit.testing.certificates import DOMAIN
from danbao_local.card import Card
from danbao_local.replay.calls import OPTIONS


def operator_channels(card: Card) -> dict[str, grpc.aio.Channel]:
    """By service."""
    files = {name: Path(card.operator[name]).read_bytes() for name in ("ca", "cert", "key")}
    credentials = grpc.ssl_channel_credentials(files["ca"], files["key"], files["cert"])
    return {
        name: grpc.aio.secure_channel(
            address, credentials, options=(*OPTIONS, ("grpc.ssl_target_name_override", f"{name}.{DOMAIN}"))
        )
        for name, address in card.services.items()
    }
