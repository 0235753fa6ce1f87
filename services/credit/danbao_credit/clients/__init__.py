"""The streams that credit reads."""
