"""What runs by itself: the readers of the streams."""
