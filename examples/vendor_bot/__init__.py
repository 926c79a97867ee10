"""The vendor's example bot, with the same commands, questions, buttons and results."""
