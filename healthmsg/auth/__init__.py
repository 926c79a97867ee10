"""Signing in and staying signed in: the three legs of OAuth, tokens, and where they are kept."""
