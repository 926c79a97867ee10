"""Proof of delivery: the rule, and the observations it uses."""
