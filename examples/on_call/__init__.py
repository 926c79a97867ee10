"""A duty bot in a team's group chat: it calls who is on duty, one after the other, until one goes."""
