"""What tests and the local stack share: a real PostgreSQL, certificates, fixtures."""
