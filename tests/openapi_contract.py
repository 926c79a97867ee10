"""Holds calls and their answers against the project's OpenAPI file.

In a request, a field, a parameter or a form's part that the file does not know is a mistake; in an answer it
is none, since there unknown fields may come.
"""

import json
import re
from collections.abc import Iterator, Mapping
from email import message_from_bytes
from email.message import Message
from email.policy import HTTP
from importlib.resources import files
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import yaml
from jsonschema import Draft202012Validator

JSON = dict[str, Any]

METHODS: Final = ("get", "put", "post", "delete")


def load() -> JSON:
    """Return the OpenAPI file."""
    text = files("healthmsg.sandbox").joinpath("openapi.yaml").read_text(encoding="utf-8")
    # The loader in C: every worker of a test run reads the file while it collects.
    document: JSON = yaml.load(text, Loader=yaml.CSafeLoader)
    return document


class Contract:
    """The OpenAPI file, as something to hold calls against. Every check raises AssertionError."""

    def __init__(self, document: JSON | None = None) -> None:
        self.document = load() if document is None else document
        self._base = self.document["servers"][0]["url"]

    @property
    def operations(self) -> Iterator[tuple[str, str, JSON]]:
        """Return method (upper case), template (without the first slash) and operation of all there are."""
        for template, item in self.document["paths"].items():
            for method in METHODS:
                if method in item:
                    yield method.upper(), template.removeprefix("/"), item[method]

    def resolve(self, part: JSON) -> JSON:
        """Follow `$ref`, as far as it goes."""
        while "$ref" in part:
            found: Any = self.document
            for key in part["$ref"].removeprefix("#/").split("/"):
                found = found[key]
            part = found
        return part

    def check_request(
        self, method: str, raw_path: str, query: str, content_type: str | None, body: bytes
    ) -> None:
        """Check a request; `raw_path` and `query` are as sent: still encoded."""
        template, operation = self.operation(method, raw_path)
        call = f"{method} {template}"
        parameters = self._parameters(template, operation)
        self._check_path(call, template, self._below_base(raw_path), parameters)
        self._check_query(call, query, parameters)
        if "requestBody" not in operation:
            assert not body, f"{call} takes no body"
            return
        content = self.resolve(operation["requestBody"])["content"]
        media_type = (content_type or "").partition(";")[0].strip().lower()
        assert media_type in content, (
            f"{call}: {media_type or 'a body without a type'} instead of {[*content]}"
        )
        schema = content[media_type]["schema"]
        if media_type == "multipart/form-data":
            document: Any = self._form(call, content_type or "", body, self.resolve(schema))
        else:
            document = _json(call, body)
        self._validate(f"the body of {call}", document, schema, unevaluatedProperties=False)

    def check_response(
        self, method: str, raw_path: str, status: int, headers: Mapping[str, str], body: bytes
    ) -> None:
        """Check an answer, whatever the request was."""
        template, operation = self.operation(method, raw_path)
        call = f"{method} {template}"
        responses = operation["responses"]
        assert str(status) in responses, f"{call} answered {status}, which is none of {[*responses]}"
        response = self.resolve(responses[str(status)])
        answer = f"the answer {status} to {call}"
        self._check_headers(answer, {name.lower(): value for name, value in headers.items()}, response)
        if "content" not in response:
            assert not body, f"{answer} has a body"
            return
        sent = {name.lower(): value for name, value in headers.items()}.get("content-type", "")
        media_type = sent.partition(";")[0].strip().lower()
        assert media_type in response["content"], f"{answer} is {media_type or 'of no type'}"
        self._validate(answer, _json(answer, body), response["content"][media_type]["schema"])

    def _below_base(self, raw_path: str) -> str:
        assert raw_path.startswith(f"{self._base}/"), f"a path outside {self._base}"
        return raw_path.removeprefix(self._base)

    def operation(self, method: str, raw_path: str) -> tuple[str, JSON]:
        """Find the template of a path, and what the file says of the call."""
        path = self._below_base(raw_path)
        # A path that is all words goes before one with ids.
        for template in sorted(self.document["paths"], key=lambda template: str(template).count("{")):
            if _as_pattern(template).fullmatch(path):
                operation = self.document["paths"][template].get(method.lower())
                assert operation is not None, f"{template} knows no {method}"
                return template, operation
        raise AssertionError(f"no path of the file fits this {method} of {path.count('/')} segments")

    def _parameters(self, template: str, operation: JSON) -> dict[tuple[str, str], JSON]:
        rows = (*self.document["paths"][template].get("parameters", ()), *operation.get("parameters", ()))
        return {(row["in"], row["name"]): row for row in map(self.resolve, rows)}

    def _check_path(
        self, call: str, template: str, path: str, parameters: Mapping[tuple[str, str], JSON]
    ) -> None:
        match = _as_pattern(template).fullmatch(path)
        assert match is not None
        for name, value in match.groupdict().items():
            assert ("path", name) in parameters, f"{call}: the file does not describe {name}"
            decoded = unquote(value, errors="strict")
            self._validate(f"{name} of {call}", decoded, parameters["path", name]["schema"])

    def _check_query(self, call: str, query: str, parameters: Mapping[tuple[str, str], JSON]) -> None:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), errors="strict")
        names = [name for name, _ in pairs]
        assert len(set(names)) == len(names), f"{call}: a query parameter is there twice"
        for name, text in pairs:
            assert ("query", name) in parameters, f"{call} takes no query parameter {name}"
            schema = parameters["query", name]["schema"]
            self._validate(f"{name} of {call}", _typed(text, self.resolve(schema)), schema)
        required = {
            row["name"] for row in parameters.values() if row["in"] == "query" and row.get("required")
        }
        assert required <= set(names), f"{call} needs {required - set(names)}"

    def _form(self, call: str, content_type: str, body: bytes, schema: JSON) -> JSON:
        form: JSON = {}
        for name, part in _parts(call, content_type, body):
            described = self.resolve(schema["properties"].get(name, {}))
            assert described, f"{call} takes no part {name}"
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            is_list = described.get("type") == "array"
            if self.resolve(described["items"] if is_list else described).get("format") == "binary":
                assert part.get_filename(), f"{call}: a file in {name} has no name"
                assert part.get("Content-Type"), f"{call}: a file in {name} has no type"
                assert content, f"{call}: a file in {name} is empty"
                value = "a file"
            else:
                value = content.decode()
            if is_list:
                form.setdefault(name, []).append(value)
            else:
                assert name not in form, f"{call}: the part {name} is there twice"
                form[name] = value
        return form

    def _check_headers(self, answer: str, sent: Mapping[str, str], response: JSON) -> None:
        for name, row in response.get("headers", {}).items():
            header = self.resolve(row)
            text = sent.get(name.lower())
            if text is None:
                assert not header.get("required"), f"{answer} has no {name}"
            else:
                schema = header["schema"]
                self._validate(f"{name} of {answer}", _typed(text, self.resolve(schema)), schema)

    def _validate(self, what: str, document: object, schema: JSON, **more: object) -> None:
        # The components come along, because the schema refers to them.
        whole = {"components": self.document["components"], "allOf": [schema], **more}
        errors = [
            f"{error.json_path}: {error.message}"
            for error in Draft202012Validator(whole).iter_errors(document)
        ]
        assert not errors, f"{what}: {'; '.join(errors)}"


def _as_pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", template))


def _typed(text: str, schema: JSON) -> object:
    """Read the text of a parameter or a header as what it should be, if it can be."""
    if schema.get("type") == "integer" and re.fullmatch(r"-?\d+", text, re.ASCII):
        return int(text)
    if schema.get("type") == "boolean" and text in {"true", "false"}:
        return text == "true"
    return text


def _json(what: str, body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError as error:
        raise AssertionError(f"{what} is no JSON") from error


def _parts(call: str, content_type: str, body: bytes) -> Iterator[tuple[str, Message]]:
    whole = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body, policy=HTTP)
    assert whole.is_multipart(), f"{call}: the form is broken"
    assert not whole.defects, f"{call}: the form is broken"
    for part in whole.iter_parts():
        name = part.get_param("name", header="content-disposition")
        assert isinstance(name, str), f"{call}: a part of the form has no name"
        yield name, part
