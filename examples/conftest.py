"""Servers for the recipes' tests: PostgreSQL and Redis, where they are installed."""

pytest_plugins = ["tests.journal_databases", "tests.redis_server"]
