"""Where events wait until they are handled."""
