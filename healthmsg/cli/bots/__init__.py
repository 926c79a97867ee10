"""What `healthmsg bot` is made of."""
