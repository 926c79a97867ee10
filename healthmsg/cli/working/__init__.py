"""What `healthmsg worker` is made of."""
