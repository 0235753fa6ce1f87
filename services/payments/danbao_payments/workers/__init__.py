"""What happens without a caller: holds that end by time, and rails that answer."""
