"""What holds whatever the wire and the store look like: accounts, transfers, payments, top-ups."""
