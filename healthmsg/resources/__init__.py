"""What the client offers, by noun."""
