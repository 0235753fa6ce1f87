"""Where trades, steps and timelines are kept: PostgreSQL, read and written by the set."""
