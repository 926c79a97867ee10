"""What several processes share: the limit of calls, over PostgreSQL or Redis."""
