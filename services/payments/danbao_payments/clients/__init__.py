"""The world outside behind our ports."""
