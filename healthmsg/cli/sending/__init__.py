"""`healthmsg send-many`, step by step."""
