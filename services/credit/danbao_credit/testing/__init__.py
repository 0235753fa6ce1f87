"""For tests: trades told event by event, a made-up population, reports, and peers that play what they are given."""
