"""The files in `deploy/`: every command, option, path and variable in them exists."""

import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.main import get_command

from healthmsg.cli.app import app
from healthmsg.cli.secret_files import ENDING, VARIABLES

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
PROBES = {"/health", "/ready"}
# Those that no option of a command has.
OTHERS = {
    *("HEALTHMSG_TOKEN", "HEALTHMSG_ENVIRONMENT", "HEALTHMSG_API_URL", "HEALTHMSG_LOG"),
    # Of a token in a store: `Client.from_env` and `TokenCipher.from_env`.
    *("HEALTHMSG_TOKEN_USER", "HEALTHMSG_TOKEN_KEYS", "HEALTHMSG_TOKEN_KEYS_FILE", "HEALTHMSG_CLIENT_ID"),
}


def load(name: str) -> list[Any]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8")))


COMPOSE = load("docker-compose.yaml")[0]
DEPLOYMENT, BUDGET = load("kubernetes/worker.yaml")
POD = DEPLOYMENT["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
WORKER = COMPOSE["services"]["worker"]


def command_named(words: list[str]) -> Any:
    """Return the command that words begin with; it fails where there is none."""
    found: Any = get_command(app)
    for word in words:
        if not hasattr(found, "commands"):
            break
        assert word in found.commands, f"healthmsg has no {word}"
        found = found.commands[word]
    return found


def check_command(words: list[str]) -> None:
    command = command_named(words)
    options = {name for option in command.params for name in option.opts}
    given = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert given <= options | {"--help"}, given - options


def variables_of_commands() -> set[str]:
    def walk(command: Any) -> Iterator[str]:
        for option in command.params:
            if option.envvar:
                yield option.envvar
        for inner in getattr(command, "commands", {}).values():
            yield from walk(inner)

    named = {*walk(get_command(app)), *OTHERS}
    return named.union(VARIABLES, (f"{name}{ENDING}" for name in VARIABLES))


def commands_in(text: str) -> Iterator[list[str]]:
    """Return the words of each line of the blocks without a language; variables before them are left out."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if language:
            continue
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and re.match(r"[A-Z_]+=", words[0]):
                del words[0]
            yield words


def check_commands_in(text: str, *others: str) -> int:
    """Check each command of `healthmsg` in a document, also where it comes after others; return how many."""
    count = 0
    for words in commands_in(text):
        if words and words[0] in {"healthmsg", *others} and "healthmsg" in words:
            check_command(words[words.index("healthmsg") + 1 :])
            count += 1
        elif words[:5] == ["docker", "compose", "run", "--rm", "campaign"]:
            check_command(words[4:])
            count += 1
    assert set(re.findall(r"\b(HEALTHMSG_[A-Z_]+)", text)) <= variables_of_commands()
    return count


# --- Docker Compose


def test_the_workers_of_compose_are_two_and_run_a_command_that_there_is() -> None:
    assert WORKER["deploy"]["replicas"] == 2
    check_command(WORKER["command"])
    campaign = COMPOSE["services"]["campaign"]
    assert campaign["entrypoint"][0] == "healthmsg"
    check_command([*campaign["entrypoint"][1:], *campaign["command"]])


def test_every_variable_of_compose_is_read() -> None:
    for service in ("worker", "campaign"):
        given = COMPOSE["services"][service]["environment"]
        assert given
        assert set(given) <= variables_of_commands()


def test_every_secret_of_compose_is_a_file_that_the_readme_makes() -> None:
    readme = (DEPLOY / "README.md").read_text(encoding="utf-8")
    for service in COMPOSE["services"].values():
        for secret in service["secrets"]:
            assert COMPOSE["secrets"][secret]["file"] == f"secrets/{secret}"
            assert f"> secrets/{secret}" in readme
        for name, value in service["environment"].items():
            if name.endswith("_FILE"):
                assert Path(value).parent == Path("/run/secrets")
                assert Path(value).name in service["secrets"]
    assert "secrets" in (DEPLOY / ".gitignore").read_text(encoding="utf-8")


def test_what_compose_asks_for_is_a_probe() -> None:
    probe = " ".join(WORKER["healthcheck"]["test"])
    (port, path) = re.findall(r"http://127\.0\.0\.1:(\d+)(/\w+)", probe)[0]
    assert path in PROBES
    assert WORKER["environment"]["HEALTHMSG_HEALTH"] == port


def test_compose_builds_the_image_that_there_is() -> None:
    build = WORKER["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Dockerfile"


# --- Kubernetes


def test_the_pods_run_a_command_that_there_is() -> None:
    assert DEPLOYMENT["spec"]["replicas"] == 2
    check_command(CONTAINER["args"])


def test_every_variable_of_the_pods_is_read_and_no_secret_is_in_the_manifest() -> None:
    variables = {variable["name"]: variable for variable in CONTAINER["env"]}
    assert set(variables) <= variables_of_commands()
    for name in VARIABLES[:2]:
        assert "value" not in variables[name]
        assert variables[name]["valueFrom"]["secretKeyRef"]["name"] == "healthmsg"


def test_the_probes_of_the_pods_are_those_that_are_answered_there() -> None:
    variables: Mapping[str, str | None] = {one["name"]: one.get("value") for one in CONTAINER["env"]}
    (port,) = CONTAINER["ports"]
    assert variables["HEALTHMSG_HEALTH"] == str(port["containerPort"])
    # A probe comes from the node, by the address of the pod.
    assert variables["HEALTHMSG_HEALTH_HOST"] == "0.0.0.0"  # noqa: S104 - for the probes of the cluster
    for probe, path in (("startup", "/health"), ("liveness", "/health"), ("readiness", "/ready")):
        asked = CONTAINER[f"{probe}Probe"]["httpGet"]
        assert asked == {"path": path, "port": port["name"]}
        assert path in PROBES


def test_a_pod_that_ends_has_the_time_to_finish_what_is_under_way() -> None:
    assert POD["terminationGracePeriodSeconds"] >= 120
    assert WORKER["stop_grace_period"] == f"{POD['terminationGracePeriodSeconds']}s"


def test_the_budget_and_the_deployment_mean_the_same_pods() -> None:
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    assert BUDGET["spec"]["selector"]["matchLabels"] == labels
    assert DEPLOYMENT["spec"]["selector"]["matchLabels"] == labels
    assert load("kubernetes/kustomization.yaml")[0]["resources"] == ["worker.yaml"]


def test_the_pods_run_as_the_user_of_the_image() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    user = str(POD["securityContext"]["runAsUser"])
    assert f"--uid {user}" in dockerfile
    assert f"USER {user}" in dockerfile


# --- the image, and the README


def test_the_image_has_extras_that_there_are_and_a_command_that_there_is() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {extra for found in re.findall(r"\[([a-z,]+)\]\"", dockerfile) for extra in found.split(",")}
    assert extras
    assert extras <= set(project["optional-dependencies"])
    assert 'ENTRYPOINT ["healthmsg"]' in dockerfile
    assert "healthmsg" in project["scripts"]
    check_command(yaml.safe_load(re.findall(r"^CMD (.*)", dockerfile, re.MULTILINE)[0]))


def test_every_file_that_the_readme_links_to_exists() -> None:
    readme = (DEPLOY / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", readme)
    assert len(links) >= 4
    assert [link for link in links if not (DEPLOY / link).exists()] == []


def test_every_healthmsg_command_and_variable_in_the_readme_exists() -> None:
    assert check_commands_in((DEPLOY / "README.md").read_text(encoding="utf-8")) >= 3


def test_a_command_or_option_that_there_is_not_is_found() -> None:
    for words in (["work"], ["worker", "--helth", "8080"]):
        with pytest.raises(AssertionError):
            check_command(words)
    assert isinstance(app, typer.Typer)
