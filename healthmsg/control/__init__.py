"""HTTP by which other programs ask a process for its state and steer it, and by which probes ask if it lives.

A bot and a worker of a fleet have the same server: what each of them can be asked for is its own.
"""
