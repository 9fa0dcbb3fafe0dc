"""Error pages as Go's html/template renders them: the same templates and data, byte for byte, where `go` is on PATH.

What is rendered here is what Go renders; what Go refuses is refused here. What only Go supports is refused here with
its line: those templates are counted, lest a comparison of nothing passes.
"""

from __future__ import annotations

import base64
import json
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from router.error_template.template import ErrorTemplate, RenderError, TemplateError
from router.error_template.values import Header, Strings, octets
from tests.interop.error_pages import ACTIONS, CONSTRUCTS, FRAMES, MESSAGES, PAGES, PIECES

BUILD_SECONDS = 300
HEADER = {"Cache-Control": ["no-cache, no-store", "<2>"], "X-Cf-Routererror": ["unknown_route"]}
STATUSES = [(404, "Not Found"), (502, "Bad Gateway"), (525, "")]
REFUSED = "refused"


def encoded(text: str) -> str:
    return base64.b64encode(octets(text)).decode()


class Go:
    """A process that renders with html/template."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def render(self, template: str, status: int, text: str, message: str) -> str:
        """The page, or REFUSED."""
        question: dict[str, Any] = {
            "Template": encoded(template),
            "Status": status,
            "StatusText": encoded(text),
            "Message": encoded(message),
            "Header": {name: [encoded(value) for value in values] for name, values in HEADER.items()},
        }
        asked, answers = self._process.stdin, self._process.stdout
        assert asked is not None
        assert answers is not None
        asked.write(json.dumps(question).encode() + b"\n")
        asked.flush()
        answer = json.loads(answers.readline())
        return REFUSED if answer["Error"] else base64.b64decode(answer["Page"] or b"").decode(errors="surrogateescape")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def go() -> Iterator[Go]:
    compiler = shutil.which("go")
    if compiler is None:
        pytest.skip("no `go` on PATH; with it, templates are compared with html/template: https://go.dev/dl")
    with tempfile.TemporaryDirectory(prefix="mr-", dir="/tmp") as folder:
        program = Path(folder) / "html_template"
        source = Path(__file__).with_name("html_template.go")
        command = [compiler, "build", "-o", program, source]
        build = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS, cwd=folder, check=False)
        if build.returncode:
            pytest.skip(f"go cannot build: {build.stderr.strip().splitlines()[-1]}")
        running = Go(program)
        yield running
        running.close()


def ours(template: str, status: int, text: str, message: str) -> str:
    header = Header({name: Strings(values) for name, values in HEADER.items()})
    try:
        page = ErrorTemplate(template, "error.html").render(status, text, message, header)
    except (TemplateError, RenderError):
        return REFUSED
    return page.decode(errors="surrogateescape")


@pytest.mark.parametrize("number", range(len(PAGES)))
@pytest.mark.parametrize("message", MESSAGES, ids=ascii)
def test_whole_pages(go: Go, number: int, message: str) -> None:
    for status, text in STATUSES:
        page = ours(PAGES[number], status, text, message)
        assert page != REFUSED
        assert page == go.render(PAGES[number], status, text, message)


@pytest.mark.parametrize("template", CONSTRUCTS)
def test_single_constructs(go: Go, template: str) -> None:
    for message in MESSAGES:
        assert ours(template, 404, "Not Found", message) == go.render(template, 404, "Not Found", message)


def body(chance: random.Random, depth: int = 0) -> str:
    return "".join(piece(chance, depth) for _ in range(chance.randint(0, 6 - 2 * depth)))


def piece(chance: random.Random, depth: int) -> str:
    drawn = chance.random()
    if drawn < 0.3:
        return chance.choice(ACTIONS)
    if drawn < 0.36 and depth < 2:
        otherwise = "{{else}}" + body(chance, depth + 1) if drawn < 0.34 else ""
        return "{{if .Message}}" + body(chance, depth + 1) + otherwise + "{{end}}"
    if drawn < 0.38 and depth < 2:
        return '{{range .Header.Values "Cache-Control"}}' + body(chance, depth + 1) + "{{end}}"
    return chance.choice(PIECES)


@pytest.mark.parametrize("seed", range(10))
def test_pages_made_at_random(go: Go, seed: int) -> None:
    chance = random.Random(seed)
    same = only_go = 0
    for _ in range(150):
        frames = [chance.choice(FRAMES) for _ in range(chance.randint(1, 2))]
        template = "".join(frame % tuple(body(chance) for _ in range(frame.count("%s"))) for frame in frames)
        for message in chance.sample(MESSAGES, 3):
            page, theirs = ours(template, 404, "Not Found", message), go.render(template, 404, "Not Found", message)
            if page == REFUSED != theirs:
                only_go += 1
            else:
                assert page == theirs, template
                same += page != REFUSED
    assert same > 100
    assert only_go < 20
