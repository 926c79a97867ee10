"""How one sandbox is set up."""

from attrs import field, frozen


@frozen
class Settings:
    """What `Sandbox` was made with, for the parts that answer. The credentials are made up, not secret."""

    client_id: str = "healthmsg-sandbox"
    client_secret: str = field(default="healthmsg-sandbox-secret", repr=False)
    redirect_uri: str | None = "http://localhost:8765/callback"
    """The registered callback; `None`: any on loopback."""
    application_name: str = "Zorgdemo"
    auto_approve: bool = True
    refresh_tokens: bool = False
    revoke_on_reuse: bool = False
    announce_expiry: bool = False
    retry_after: bool = True
    ranges: bool = True
    strict: bool = False
