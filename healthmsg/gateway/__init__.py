"""The gateway, over which the service tells what happens as it happens. Contract: "The gateway".

`budget.py`, `backoff.py` and `protocol.py` do no I/O and look at no clock. `line.py` moves what the protocol
says over one WebSocket, and `connection.py` opens one after the other.
"""
