"""Bots to read, to run and to begin with. The package does not load them."""
