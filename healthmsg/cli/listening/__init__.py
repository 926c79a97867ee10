"""What `healthmsg listen` is made of."""
