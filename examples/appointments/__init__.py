"""A reminder of tomorrow's appointments, with buttons to confirm, move and cancel them."""
