"""What goes wrong in signing in, or staying signed in."""

from healthmsg.errors.base import HealthmsgError


class AuthorizationError(HealthmsgError):
    """Signing in, or staying signed in, failed."""


class StateMismatchError(AuthorizationError):
    """The callback's `state` is not the one that was sent: the request may be forged. Start over."""


class MissingStateError(StateMismatchError):
    """The callback has no `state`: the request may be forged. Start over."""


class AuthorizationRefusedError(AuthorizationError):
    """The user or the service refused. `code` is OAuth's error code, `description` the service's words."""

    def __init__(self, code: str, description: str | None = None) -> None:
        self.code = code
        self.description = description
        super().__init__("The authorization was refused; `code` and `description` say why.")


class MissingCodeError(AuthorizationError):
    """The callback has neither a code nor an error."""


class TokenRequestError(AuthorizationError):
    """The token URL refused the request, or its answer has no usable token.

    `code` is OAuth's error code (`invalid_grant`, `invalid_client`, `temporarily_unavailable`, …) when the
    service named one, `status` the answer's, and `retry_after` the wait that it asked for, in seconds, if it
    did. `is_final` says whether trying again later is futile: the service does not know the application.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.code = code
        self.status = status
        self.retry_after = retry_after
        super().__init__(message)

    @property
    def is_final(self) -> bool:
        """Whether trying again later is futile."""
        return self.code == "invalid_client"


class TokenStoreError(AuthorizationError):
    """A token store could not be read, written or locked."""


class ReauthorizationRequiredError(AuthorizationError):
    """The token no longer works and cannot be renewed: the user has to authorize again."""
