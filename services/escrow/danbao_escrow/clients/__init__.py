"""Other services, behind escrow's ports."""
