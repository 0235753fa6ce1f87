"""What each command does: one pure decision function a command, over a working set, in a moment."""
