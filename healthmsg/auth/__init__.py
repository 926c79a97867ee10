"""Signing in and staying signed in: the three legs of OAuth, tokens, and where they are kept."""

from healthmsg.auth.manager import TokenManager
from healthmsg.auth.oauth import AuthorizationRequest, OAuthApp
from healthmsg.auth.stores import FileTokenStore, LockingTokenStore, MemoryTokenStore, TokenStore
from healthmsg.auth.token import Token

__all__ = [
    "AuthorizationRequest",
    "FileTokenStore",
    "LockingTokenStore",
    "MemoryTokenStore",
    "OAuthApp",
    "Token",
    "TokenManager",
    "TokenStore",
]
