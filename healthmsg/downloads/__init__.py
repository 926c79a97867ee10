"""Downloading files: one, all of a chat, or the archive of a chat."""
