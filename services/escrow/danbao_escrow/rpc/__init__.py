"""Escrow on the wire: servicers, and how messages become commands and trades become messages."""
