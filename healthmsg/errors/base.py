"""What all errors have in common."""

from collections.abc import Callable


class HealthmsgError(Exception):
    """The base of all errors of this package. They survive pickle and copy."""

    def __reduce__(self) -> tuple[Callable[..., "HealthmsgError"], tuple[object, ...], dict[str, object]]:
        return _rebuild, (type(self), *self.args), self.__dict__.copy()


def _rebuild(error: type[HealthmsgError], *args: object) -> HealthmsgError:
    return error.__new__(error, *args)
