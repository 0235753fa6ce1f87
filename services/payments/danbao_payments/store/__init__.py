"""Where the books are kept: PostgreSQL."""
