"""Orders in the public Olist file format: read from a folder, or made up from a seed."""
