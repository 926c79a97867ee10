"""Bots: handlers, replies that go out once, dialogs and timers that survive the process."""
