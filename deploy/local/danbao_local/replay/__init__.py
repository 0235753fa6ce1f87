"""Real orders as secured trades: read from Olist's files, sent through the gateway on the test clock, and audited."""
