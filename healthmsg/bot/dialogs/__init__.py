"""Dialogs: coroutines that ask, wait for days, and survive the process."""
