"""For tests: trades built by hand, a world without a database, and peers that can be told to misbehave."""
