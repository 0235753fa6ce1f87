"""Credit on the wire."""
