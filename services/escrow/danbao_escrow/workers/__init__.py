"""What runs by itself: steps, the sweeper that takes over abandoned ones, timers."""
