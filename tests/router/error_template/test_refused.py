"""What a template may not hold is said when it is read, with its line and what there is instead; bounds on the rest."""

from __future__ import annotations

import contextlib
import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.error_template.expressions import MAX_OUTPUT, MAX_STEPS
from router.error_template.syntax import MAX_DEPTH
from router.error_template.template import ErrorTemplate, RenderError, TemplateError
from router.error_template.values import MAX_TEXT
from tests.router.error_template.pages import render


def refusal(source: str) -> str:
    with pytest.raises(TemplateError) as refused:
        ErrorTemplate(source, "error.html")
    return str(refused.value)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("\n{{foo .Status}}", "2: function foo is not supported; there are and, eq, ge"),
        ("{{slice .Message 1}}", "1: function slice is not supported"),
        ("\n\n{{.Nope}}", "3: there is no .Nope; there are .Status, .StatusText, .Message, .Header"),
        ("{{.Status.X}}", "1: .Status has no fields"),
        ('{{.Header.Set "a" "b"}}', "1: .Header.Set is not supported; there are .Header.Get and .Header.Values"),
        ("{{.Header.Get}}", '1: .Header.Get is not used right; it is written .Header.Get "X"'),
        ("{{.}}", "1: the whole of the data cannot be printed; there are .Status"),
        ("{{with .Status}}{{$}}{{end}}", "1: the whole of the data cannot be printed; there are .Status"),
        ("{{with .Status}}{{$.Nope}}{{end}}", "1: there is no .Nope"),
        ("{{range .Header}}\n{{break}}{{end}}", "2: {{break}} is not supported; there are if, with, range"),
        ('{{printf "%x" .Status}}', "1: printf does not support '%x'; it knows %s, %d"),
        ('{{printf "%2000d" .Status}}', "1: printf fills up to 1000 characters"),
        ('{{define "x"}}\n{{template "x"}}{{end}}{{template "x"}}', '2: template "x" calls itself'),
        ('{{template "x"}}', '1: template "x" is not defined here; defined are: none'),
        ('{{define "x"}}a{{end}}{{define "x"}}b{{end}}', '1: template "x" is defined twice'),
        ('{{if .Status}}{{define "x"}}{{end}}{{end}}', "1: {{define}} inside another action"),
        ("<img\nsrcset='{{.Message}}'>", "2: an action inside of a srcset attribute is not supported"),
        ("<script>/{{.Message}}/</script>", "1: an action inside of a JavaScript regular expression is not supported"),
        ("<p>\n<a href='x", "1: the template ends inside of a URL"),
        ("<script>\n", "1: the template ends inside of JavaScript"),
        (
            "\n{{if .Message}}<p{{else}}<p>{{end}}>",
            "2: the branches of {{if}} end in different places: a tag, and the text",
        ),
        ("{{if .Message}}<a title='{{end}}'>", "1: the branches of {{if}} end in different places"),
        ("{{range .Header}}<p title='{{end}}'>", "1: the branches of {{range}} end in different places"),
        (
            '<a href="{{if .Message}}/{{else}}?{{end}}{{.Message}}">',
            "1: the branches before this action lead to different parts",
        ),
        ("<p \n'x'>", "1: a quote or < in the name of an attribute"),
        ("a\nb <p x=a'b>", "2: \"'\" in an attribute's value without quotes"),
        ("<p title={{.Message | html}}>", "1: html is not enough in an attribute's value without quotes"),
        ("{{.Message | html | print}}", "1: html may only stand at the end"),
        ("<script>'\\{{.Message}}'</script>", "1: an escape in JavaScript that has no end"),
        ("{{if .Status}}", "1: {{if}} of line 1 has no {{end}}"),
        ("\n{{end}}", "2: {{end}} without a beginning"),
        ("{{else}}", "1: {{else}} without a beginning"),
        ("{{if .Status}}{{else}}{{else}}{{end}}", "1: a second {{else}}"),
        ("{{", "1: an action that does not end"),
        ("{{/* x", "1: a comment that does not end"),
        ("{{/* x */ .Status}}", "1: }} must follow the */ of a comment at once"),
        ("{{(.Status}}", "1: unclosed left paren"),
        ("{{.Status)}}", "1: unexpected right paren"),
        ("{{$x}}", "1: undefined variable $x"),
        ("{{if .Status}}{{$x := 1}}{{end}}{{$x}}", "1: undefined variable $x"),
        ("{{if .Status}}{{$x := 1}}{{else}}{{$x}}{{end}}", "1: undefined variable $x"),
        ("{{range ($x := .Header)}}{{$x}}{{end}}", "1: a variable cannot be assigned in parentheses"),
        ("{{$ := 1}}", "1: $ stands for the template's data"),
        ("{{if}}{{end}}", "1: a value is missing in if"),
        ("{{1 | 2}}", "1: only functions and fields can follow a |"),
        ("{{nil | print}}", "1: {{nil}} is not supported"),
        ("{{1 2}}", "1: arguments for something that is no function"),
        ("{{not 1 2}}", "1: not has 2 arguments and wants 1"),
        ("{{eq 1}}", "1: eq has 1 arguments and wants at least 2"),
        ("{{and}}", "1: and wants a value"),
        ("{{099}}", "1: 099 is no number that is supported"),
        ("{{1i}}", "1: 1i is no number that is supported"),
        ("{{99999999999999999999}}", "1: 99999999999999999999 overflows int"),
        ("{{1e999}}", "1: 1e999 is too large"),
        ("{{'ab'}}", "1: 'ab' is not one character"),
        (r'{{"\q"}}', r"1: unknown escape \q"),
        ("{{.Status;}}", "1: unexpected ';' after the name .Status"),
        ('{{print "a""b"}}', '1: unexpected "b" in command'),
        ("{{.Status.}}", "1: unexpected . in command"),
    ],
)
def test_refused_with_its_line(source: str, why: str) -> None:
    assert refusal(source).startswith(f"error.html:{why}"), refusal(source)


class TestBounds:
    def test_nesting(self) -> None:
        def nested(depth: int) -> str:
            return "{{if 1}}" * depth + "x" + "{{end}}" * depth

        assert render(nested(MAX_DEPTH)) == "x"
        assert "nested deeper" in refusal(nested(MAX_DEPTH + 1))

    def test_parentheses_and_else_if(self) -> None:
        assert "nested deeper" in refusal("{{" + "(" * 1000 + "1" + ")" * 1000 + "}}")
        assert "more than" in refusal("{{if 0}}" + "{{else if 0}}" * 1000 + "{{end}}")
        assert render("{{" + "(" * 50 + "1" + ")" * 50 + "}}") == "1"

    def test_output(self) -> None:
        calls = "".join(f'{{{{define "{n}"}}}}{f"{{{{template `{n - 1}`}}}}" * 2}{{{{end}}}}' for n in range(1, 40))
        with pytest.raises(RenderError, match="the page"):
            render('{{define "0"}}' + "x" * 1000 + "{{end}}" + calls + '{{template "39"}}')
        assert MAX_OUTPUT >= 1024 * 1024

    def test_steps(self) -> None:
        loops = "{{range $.Header}}" * 60 + "{{end}}" * 60
        began = time.monotonic()
        with pytest.raises(RenderError, match=f"more than {MAX_STEPS} steps"):
            render(loops)
        assert time.monotonic() - began < 5

    def test_values(self) -> None:
        with pytest.raises(RenderError, match=f"longer than {MAX_TEXT} characters"):
            render("{{$x := .Message}}" + "{{$x = print $x $x}}" * 40 + "{{$x}}")

    def test_many_calls_of_one_template_are_compiled_once(self) -> None:
        calls = "".join(f'{{{{define "{n}"}}}}{f"{{{{template `{n - 1}`}}}}" * 2}{{{{end}}}}' for n in range(1, 90))
        began = time.monotonic()
        ErrorTemplate('{{define "0"}}x{{end}}' + calls + '{{template "89"}}', "error.html")
        assert time.monotonic() - began < 5

    def test_a_megabyte_of_quotes_is_read_in_its_length(self) -> None:
        began = time.monotonic()
        for text in (
            '<script>"' + '"' * 300_001 + "</script>",
            "<style>" + "'a'" * 100_000 + "</style>",
            "<" * 300_000,
        ):
            with contextlib.suppress(TemplateError):
                ErrorTemplate(text, "error.html")
        assert time.monotonic() - began < 20


ACTIONS = (
    "{{ }} {{- -}} {{.Status}} {{.Message}} {{if_.Message}} {{else}} {{else_if_.Status}} {{end}} {{range_.Header}} "
    '{{with_.Message}} {{define_"x"}} {{template_"x"_.}} {{$x_:=_.Message}} {{$x}} {{. {{/* */}} ( ) | := , $ . 1'
)
MARKUP = "< > <p href= onclick=' <script> </script> <style> </style> url( / */ // <!-- --> \\ = a \" ' ` \0 é \udcff"
FRAGMENTS = [" ", "\n", *(word.replace("_", " ") for word in f"{ACTIONS} {MARKUP}".split(" "))]


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=30).map("".join), st.text(max_size=20))
@example("{{.Message}}" * 10, "x")
def test_any_text_is_a_template_or_refused_with_its_line(source: str, message: str) -> None:
    said = ""
    try:
        render(source, message)
    except RenderError:
        pass
    except TemplateError as error:
        said = str(error)
    assert not said or re.match(r"error\.html:[1-9][0-9]*: .", said)
