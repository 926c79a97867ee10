"""The sandbox's gateway: live events over a WebSocket. Contract: "The gateway".

`service` answers the upgrades and hands on what the hub announces, `session` is one connection, `actions` is
what its client asks for, `outbox` what waits to be sent, and `faults` what a test can make go wrong.
"""
