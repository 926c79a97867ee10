"""The daily commands: `nox -l` lists them, `nox` runs the quick ones. `.ci/run` is what CI does."""

import nox

nox.needs_version = ">=2024.10.9"
nox.options.sessions = ["quick", "lint", "types"]
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"


def _install(session: nox.Session) -> None:
    session.install("--editable", ".[dev]")


@nox.session
def quick(session: nox.Session) -> None:
    """Run the quick tests, or those that are named: `nox -s quick -- tests/auth`."""
    _install(session)
    session.run("pytest", "-q", "-n", "auto", "-m", "not slow", *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """Run the slow tests: processes, databases, kills, terminals, a browser."""
    _install(session)
    session.run("pytest", "-q", "-n", "auto", "-m", "slow", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Run all tests, and measure which branches they take."""
    _install(session)
    session.run("pytest", "-q", "-n", "auto", "--cov", "--cov-report=term", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format."""
    _install(session)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types, and that those of all that is public are complete."""
    _install(session)
    session.run("mypy")
    session.run("pyright", "--verifytypes", "healthmsg", "--ignoreexternal")


@nox.session
def docs(session: nox.Session) -> None:
    """Check that the documents name what exists, and that README's examples run."""
    _install(session)
    session.run("pytest", "-q", "tests/test_docs.py", "tests/test_readme.py")


@nox.session(python=["3.12", "3.13", "3.14"])
def others(session: nox.Session) -> None:
    """Run the quick tests on the other Pythons that are installed."""
    _install(session)
    session.run("pytest", "-q", "-n", "auto", "-m", "not slow", *session.posargs)
