"""What credit does: apply events, evaluate, give terms."""
