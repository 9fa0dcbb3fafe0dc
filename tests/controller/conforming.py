"""Every response that a test gets is held against the OpenAPI document: its status, its type, its shape."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import httpx
import jsonschema_rs

JSON = "application/json"


class Document:
    """As one controller serves it."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._components = document["components"]
        self._operations = [
            (re.compile("^" + re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)) + "/?$"), path.count("{"), path, methods)
            for path, methods in document["paths"].items()
        ]
        self._validator = cache(self._make_validator)

    @classmethod
    def of(cls, port: int) -> Document:
        return cls(httpx.get(f"http://127.0.0.1:{port}/openapi.json", timeout=30).raise_for_status().json())

    def operation(self, method: str, path: str) -> tuple[str, dict[str, Any]] | None:
        """The path as it is in the document, and what it says; the one with the fewest variables where several fit."""
        fitting = [
            (variables, template, methods[method.lower()])
            for pattern, variables, template, methods in self._operations
            if method.lower() in methods and pattern.match(path)
        ]
        if not fitting:
            return None
        _, template, operation = min(fitting, key=lambda one: one[0])
        return template, operation

    def check(self, response: httpx.Response) -> None:
        """Raises AssertionError: the response is not what the document says. A hook of httpx."""
        request = response.request
        found = self.operation(request.method, request.url.path)
        if found is None:
            return  # no operation of the document's: what answers is not a part of it
        template, operation = found
        response.read()
        where = f"{request.method} {template} {response.status_code}"
        documented = operation["responses"].get(str(response.status_code))
        assert documented is not None, f"{where}: a status that is not documented: {response.text[:500]}"
        if not response.content:
            assert "content" not in documented, f"{where}: empty, which is not documented"
            return
        kind = response.headers["content-type"].partition(";")[0]
        assert kind in documented.get("content", {}), f"{where}: {kind} is not documented: {response.text[:500]}"
        if kind == JSON:
            validator = self._validator(request.method.lower(), template, response.status_code)
            problems = [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(response.json())]
            assert not problems, f"{where}: {problems[:3]}"

    def _make_validator(self, method: str, template: str, status: int) -> Any:
        operation = next(methods for _, _, path, methods in self._operations if path == template)[method]
        wanted = operation["responses"][str(status)]["content"][JSON]["schema"]
        return jsonschema_rs.validator_for({**wanted, "components": self._components})
