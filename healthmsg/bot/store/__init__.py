"""What a bot keeps in its database, beside the inbox: dialogs, their steps, and timers."""
