"""Credit's own PostgreSQL."""
