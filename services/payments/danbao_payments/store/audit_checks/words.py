"""Words that several checks use."""

# The accounts in which money comes from outside and goes there.
RAIL = "('rail.in_transit', 'rail.settled')"
