"""The database under what outlives the process: its tables, its file or server, and the task that writes."""
