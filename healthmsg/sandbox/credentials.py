"""Comparing what was sent with what opens something."""

from hmac import compare_digest


def is_same(sent: str, expected: str) -> bool:
    """Tell whether the right thing was sent, in a time that says nothing about how much of it was right.

    What aiohttp could not decode is in `sent` as half surrogate pairs: it is compared like anything else.
    """
    return compare_digest(sent.encode(errors="surrogatepass"), expected.encode())
