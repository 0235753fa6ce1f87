"""What a secured transaction is and which moves are legal: pure, no I/O, no clock."""
