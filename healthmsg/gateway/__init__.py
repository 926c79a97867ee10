"""Live events over the gateway, and catching up on what was missed."""
