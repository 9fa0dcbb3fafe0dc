"""A value is made harmless for the place where it stands. Expectations are html/template's own."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.router.error_template.pages import render

EVIL = "</a \"&'+`\n\\{=?%"


@pytest.mark.parametrize(
    ("source", "page"),
    [
        ("<p>{{.}}</p>", "<p>&lt;/a &#34;&amp;&#39;&#43;`\n\\{=?%</p>"),
        ("<title>{{.}}</title>", "<title>&lt;/a &#34;&amp;&#39;&#43;`\n\\{=?%</title>"),
        ('<p title="{{.}}">', '<p title="&lt;/a &#34;&amp;&#39;&#43;`\n\\{=?%">'),
        ("<p title={{.}}>", "<p title=&lt;/a&#32;&#34;&amp;&#39;&#43;&#96;&#10;\\{&#61;?%>"),
        ('<a href="/{{.}}">', '<a href="/%3c/a%20%22&amp;%27&#43;%60%0a%5c%7b=?%25">'),
        ('<a href="?q={{.}}">', '<a href="?q=%3c%2fa%20%22%26%27%2b%60%0a%5c%7b%3d%3f%25">'),
        ("<script>f({{.}})</script>", '<script>f("\\u003c/a \\"\\u0026\'+`\\n\\\\{=?%")</script>'),
        ('<script>"{{.}}"</script>', '<script>"\\u003c\\/a \\u0022\\u0026\\u0027\\u002b\\u0060\\n\\\\{=?%"</script>'),
        (
            "<script>`{{.}}`</script>",
            "<script>`\\u003c\\/a \\u0022\\u0026\\u0027\\u002b\\u0060\\n\\\\\\u007b=?%`</script>",
        ),
        ("<style>a{b:{{.}}}</style>", "<style>a{b:ZgotmplZ}</style>"),
        ('<style>a{b:"{{.}}"}</style>', '<style>a{b:"\\3c\\2f a \\22\\26\\27\\2b`\\a\\\\\\7b=?%"}</style>'),
        ("<p>a<!-- {{.}} -->b", "<p>ab"),
        ("<p {{.}}>", "<p ZgotmplZ>"),
    ],
)
def test_each_place_in_its_own_way(source: str, page: str) -> None:
    assert render(source.replace("{{.}}", "{{.Message}}"), EVIL) == page


@pytest.mark.parametrize(
    ("message", "href"),
    [
        ("http://a.test/b?c=d", "http://a.test/b?c=d"),
        ("/b", "/b"),
        ("mailto:x@y", "mailto:x@y"),
        ("HTTPS://a", "HTTPS://a"),
        ("a/b:c", "a/b:c"),
        ("javascript:alert(1)", "#ZgotmplZ"),
        ("JavaScript:alert(1)", "#ZgotmplZ"),
        ("data:text/html,x", "#ZgotmplZ"),
        ("a b%41%4", "a%20b%41%254"),
    ],
)
def test_the_beginning_of_a_url_has_a_scheme_that_runs_nothing(message: str, href: str) -> None:
    assert render('<a href="{{.Message}}">', message) == f'<a href="{href}">'


@pytest.mark.parametrize(
    ("source", "page"),
    [
        (
            "<script>f({{.Status}}, {{true}}, {{.Header.Nope}}, {{1.5}})</script>",
            "<script>f( 404 ,  true ,  null ,  1.5 )</script>",
        ),
        (
            '<script>f({{.Header.Values "Cache-Control"}}, {{index .Header "Nope"}})</script>',
            '<script>f(["no-cache, no-store","second"],  null )</script>',
        ),
        (
            "<script>({{.Header}})</script>",
            '<script>({"Cache-Control":["no-cache, no-store","second"],"X-Cf-Routererror":["unknown_route"]})</script>',
        ),
        ('<b onclick="f({{.Message}})">', '<b onclick="f(&#34;m&#34;)">'),
        ("<b onclick='f(\"{{.Message}}\")'>", "<b onclick='f(\"m\")'>"),
        ('<b style="color: {{.Message}}">', '<b style="color: m">'),
        ('<b style="background: url({{.Message}})">', '<b style="background: url(m)">'),
        ('<meta content="5; url={{.Message}}">', '<meta content="5; url=m">'),
        ('<input data-url="{{.Message}}" onx="{{.Message}}">', '<input data-url="m" onx="&#34;m&#34;">'),
        ('<script type="text/template"><p>{{.Message}}</p></script>', '<script type="text/template"><p>m</p></script>'),
        (
            '<script type="application/json">{"a": {{.Message}}}</script>',
            '<script type="application/json">{"a": "m"}</script>',
        ),
        ("<textarea>a < {{.Message}}</textarea>", "<textarea>a &lt; m</textarea>"),
        ("<p>a < b <!doctype x> </p>", "<p>a &lt; b <!doctype x> </p>"),
        ("<style>p { /* c */ a: b } // d\n</style>", "<style>p {   a: b } \n</style>"),
        ("<script>a /* c\n */ b // d\nf({{.Status}} / 2)</script>", "<script>a \n b \nf( 404  / 2)</script>"),
        ("<script>'</script>'</script>", "<script>'\\x3C/script>'</script>"),
        ('<script>x = /[/]"/; y = 4 / 2; f("{{.Message}}")</script>', '<script>x = /[/]"/; y = 4 / 2; f("m")</script>'),
        ("<script>`${ {a: 1} }{{.Message}}`</script>", "<script>`${ {a: 1} }m`</script>"),
        ("<p title={{if .Message}}{{.Message}}{{end}}>x", "<p title=m>x"),
        ("<input {{if .Message}}checked{{end}}>", "<input checked>"),
        (
            '{{define "x"}}{{.Message}}{{end}}<b onclick="{{template "x" .}}">{{template "x" .}}',
            '<b onclick="&#34;m&#34;">m',
        ),
    ],
)
def test_what_surrounds_an_action_decides(source: str, page: str) -> None:
    assert render(source) == page


anything = st.text(
    alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from("<>\"'&`\\/{}()=:;#?% \n\r\0\u2028-"))
)


class TestWhateverTheMessage:
    """What a client can put into a message never leaves its place."""

    @given(anything)
    def test_no_tag_begins_in_the_text(self, message: str) -> None:
        assert not set(render("{{.Message}}", message)) & set("<>\"'\0")

    @given(anything)
    def test_no_quoted_value_ends(self, message: str) -> None:
        assert not set(render('<a title="{{.Message}}">', message)[10:-2]) & set("<>\"'")

    @given(anything)
    def test_no_unquoted_value_ends(self, message: str) -> None:
        value = render("<a title={{.Message}}>", message)[9:-1]
        assert value
        assert not re.search("[ \t\n\v\f\r<>\"'`=]", value)

    @given(anything)
    def test_no_script_ends(self, message: str) -> None:
        page = render("<script>f({{.Message}}); g('{{.Message}}'); h(`{{.Message}}`)</script>", message)
        inner = page[len("<script>") : -len("</script>")]
        assert "<" not in inner
        assert not re.search("[\n\r\u2028\u2029]", inner)
        second = inner[inner.index("); g('") + 6 : inner.index("'); h(`")]
        assert "'" not in second

    @given(anything)
    def test_no_style_ends(self, message: str) -> None:
        page = render('<style>a{b:{{.Message}};c:"{{.Message}}"}</style>', message)
        inner = page[len("<style>") : -len("</style>")]
        assert "<" not in inner
        assert inner.count('"') == 2
        assert (inner.count("{"), inner.count("}")) == (1, 1)

    @given(anything)
    def test_no_url_runs(self, message: str) -> None:
        href = render('<a href="{{.Message}}">', message)[9:-2]
        scheme = re.match("([^/?#&]*):", href)
        assert scheme is None or scheme[1].lower() in ("http", "https", "mailto")
        assert re.fullmatch(r"[A-Za-z0-9\-._~!#$&*+,/:;=?@\[\]%]*", href)
