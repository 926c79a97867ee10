"""HTTP: the only place that touches aiohttp, whose exceptions end here."""
