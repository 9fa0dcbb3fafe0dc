"""The template language as far as error pages use it: each construct prints what html/template prints."""

from __future__ import annotations

import pytest

from router.error_template.template import RenderError
from tests.router.error_template.pages import render


@pytest.mark.parametrize(
    ("source", "page"),
    [
        ("", ""),
        ("no action", "no action"),
        ("{{.Status}} {{.StatusText}}: {{.Message}}", "404 Not Found: m"),
        ('{{.Header.Get "X-Cf-RouterError"}}', "unknown_route"),
        ('{{.Header.Get "x-cf-routererror"}}', "unknown_route"),
        ('{{.Header.Get "Nope"}}', ""),
        ('{{.Header.Values "cache-control"}}', "[no-cache, no-store second]"),
        ("{{.Header.Server}}", ""),
        ("{{.Header}}", "map[Cache-Control:[no-cache, no-store second] X-Cf-Routererror:[unknown_route]]"),
        ('{{index .Header "Cache-Control" 1}}', "second"),
        ('{{index (index .Header "Cache-Control") 0}}', "no-cache, no-store"),
        ('{{index .Header "Nope"}}', "[]"),
        ("{{index .Message 0}}", "109"),
        ("{{$.Status}} {{(.Status)}}", "404 404"),
        ("{{  .Status\n\t}}", "404"),
    ],
)
def test_data(source: str, page: str) -> None:
    assert render(source) == page


@pytest.mark.parametrize(
    ("source", "page"),
    [
        ("{{if .Message}}yes{{end}}", "yes"),
        ("{{if eq .Status 502}}5{{else if eq .Status 404}}4{{else}}?{{end}}", "4"),
        ("{{if eq .Status 502}}5{{else if eq .Status 503}}3{{else}}?{{end}}", "?"),
        ("{{with .Message}}[{{.}} {{$.Status}}]{{else}}none{{end}}", "[m 404]"),
        ("{{with .Header.Nope}}{{.}}{{else}}none {{.Status}}{{end}}", "none 404"),
        ("{{with .Header.Nope}}a{{else with .Message}}{{.}}{{end}}", "m"),
        ("{{with $x := .Message}}{{$x}}{{end}}", "m"),
        ('{{with .Header}}{{.Get "X-Cf-RouterError"}}{{end}}', "unknown_route"),
        ("{{range .Header}}{{.}};{{end}}", "[no-cache, no-store second];[unknown_route];"),
        ("{{range $name, $values := .Header}}{{$name}}={{len $values}} {{end}}", "Cache-Control=2 X-Cf-Routererror=1 "),
        ('{{range .Header.Values "Cache-Control"}}({{.}}){{end}}', "(no-cache, no-store)(second)"),
        ('{{range $i, $v := .Header.Values "Cache-Control"}}{{$i}}{{$v}},{{end}}', "0no-cache, no-store,1second,"),
        ('{{range $v := .Header.Values "Nope"}}{{$v}}{{else}}none {{.Status}}{{end}}', "none 404"),
        ('{{range $v := .Header.Values "Nope"}}{{else}}{{$v}} {{.Status}}{{end}}', "[] 404"),
        ("{{$x := 1}}{{if .Message}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("{{$x := 1}}{{if .Message}}{{$x := 2}}{{end}}{{$x}}", "1"),
        ('{{$v := ""}}{{range $v = .Header.Values "Cache-Control"}}{{end}}{{$v}}', "second"),
        ('{{define "x"}}<b>{{.}}</b>{{end}}{{template "x" .Message}}', "<b>m</b>"),
        ('{{define "x"}}{{.}}{{end}}{{template "x"}}', ""),
        ('{{block "x" .Status}}[{{.}}]{{end}}', "[404]"),
        (
            '{{template "x" .}}{{define "x"}}{{.Status}}{{template "y" .Message}}{{end}}{{define "y"}}{{.}}{{end}}',
            "404m",
        ),
    ],
)
def test_branches_variables_and_templates(source: str, page: str) -> None:
    assert render(source) == page


@pytest.mark.parametrize(
    ("source", "page"),
    [
        ("{{/* nothing */}}x", "x"),
        ("a {{- /* nothing */ -}} b", "ab"),
        ("a \n\t{{- 1 -}} \n b", "a1b"),
        ("a {{1 -}} b {{- 2}} c", "a 1b2 c"),
        ("{{-3}}", "-3"),
        ("{{/* two\nlines */}}x", "x"),
    ],
)
def test_comments_and_trimming(source: str, page: str) -> None:
    assert render(source) == page


@pytest.mark.parametrize(
    ("source", "page"),
    [
        (r'{{"a\"b\x41\u00e9\n\\"}}', "a&#34;bAé\n\\"),
        (r"{{`raw \n`}}", r"raw \n"),
        ("{{'a'}} {{'\\n'}}", "97 10"),
        ("{{0x1F}} {{017}} {{0b11}} {{1_000}} {{-3}}", "31 15 3 1000 -3"),
        (
            "{{1.5}} {{1e3}} {{.5}} {{1e6}} {{0.00001}} {{123456789.125}}",
            "1.5 1000 0.5 1e&#43;06 1e-05 1.23456789125e&#43;08",
        ),
        ("{{true}} {{false}}", "true false"),
    ],
)
def test_constants(source: str, page: str) -> None:
    assert render(source) == page


@pytest.mark.parametrize(
    ("source", "page"),
    [
        ("{{eq .Status 404}} {{eq .Status 1 404}} {{ne .Status 404}}", "true true false"),
        ("{{lt 1 2}} {{le 2 2}} {{gt 1 2}} {{ge 2 2}}", "true true false true"),
        ('{{lt "a" "b"}} {{eq "a" "a"}} {{eq .Header.Nope nil}} {{eq true false}}', "true true true false"),
        ('{{and .Message 1}} {{and 1 0 2}} {{or "" 0 "x"}} {{or 0 ""}} {{not .Message}}', "1 0 x  false"),
        ("{{if and .Message (eq .Status 404)}}yes{{end}}", "yes"),
        ('{{len .Message}} {{len .Header}} {{len "é"}}', "1 2 2"),
        ('{{print 1 2 "a" "b" 3 nil}} {{println "a" 1}}', "1 2ab3 &lt;nil&gt; a 1\n"),
        (
            '{{printf "%d %s %v %q %t %%" .Status .StatusText .Message "a\\"b" true}}',
            "404 Not Found m &#34;a\\&#34;b&#34; true %",
        ),
        ('{{printf "%5d|%-5d|%05d|%10s|%.3s" 42 42 42 "abc" "abcdef"}}', "   42|42   |00042|       abc|abc"),
        ('{{printf "%d" "x"}} {{printf "%s" 1}} {{printf "%s"}}', "%!d(string=x) %!s(int=1) %!s(MISSING)"),
        ('{{printf "x" 1 "y"}}', "x%!(EXTRA int=1, string=y)"),
        ('{{.Status | printf "%d-%d" 1}}', "1-404"),
        ('{{"x-cf-routererror" | .Header.Get}}', "unknown_route"),
        ('{{.Header.Get "X-Cf-RouterError" | printf "%q" | len}}', "15"),
    ],
)
def test_functions(source: str, page: str) -> None:
    assert render(source) == page


@pytest.mark.parametrize(
    ("source", "page"),
    [
        ("{{.Message | html}}", "a&#39;b+&lt;"),
        ("{{html .Message}}", "a&#39;b+&lt;"),
        ("{{.Message}}", "a&#39;b&#43;&lt;"),
        ("{{.Message | js}}", "a\\&#39;b&#43;\\u003C"),
        ("{{.Message | urlquery}}", "a%27b%2B%3C"),
    ],
)
def test_escaping_by_hand(source: str, page: str) -> None:
    assert render(source, "a'b+<") == page


@pytest.mark.parametrize(
    "source",
    [
        '{{eq 1 "a"}}',
        "{{lt true false}}",
        "{{index .Message 9}}",
        '{{index .Header "Cache-Control" 7}}',
        "{{range .Message}}{{end}}",
        "{{range 3}}{{end}}",
        "{{len .Status}}",
        "{{with .Status}}{{.X}}{{end}}",
        "{{printf .Message}}",
        "{{$x := .}}{{$x}}",
    ],
)
def test_what_makes_no_sense_for_an_answer_is_an_error_of_its_page_alone(source: str) -> None:
    with pytest.raises(RenderError):
        render(source, "%x")
