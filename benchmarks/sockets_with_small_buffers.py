"""Connections that send no faster than the other side reads, so that an upload takes its time."""

import socket
from typing import Any

import aiohttp
from counting_server import BUFFER


def _small(address: tuple[Any, ...]) -> socket.socket:
    family, kind, protocol, *_ = address
    opened = socket.socket(family, kind, protocol)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    return opened


def connector() -> aiohttp.TCPConnector:
    """Make a pool of such connections which holds up no call."""
    return aiohttp.TCPConnector(limit=0, socket_factory=_small)
