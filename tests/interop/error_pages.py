"""Templates that are rendered by Go and here: whole pages, single constructs, and pieces to make pages of at random."""

from __future__ import annotations

from pathlib import Path
from typing import Final

PAGES: Final = [
    """<!DOCTYPE html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <!-- {{.StatusText}} -->
  <title>{{.Status}} {{.StatusText}}</title>
  <style>
    body { font-family: "Source Sans Pro", sans-serif; background: url('/bg.png?s={{.Status}}') } /* {{.Message}} */
    .status-{{.Status}} { color: {{if ge .Status 500}}red{{else}}gray{{end}} }
  </style>
  <script type="text/javascript">
    // what happened: {{.Message}}
    var error = {code: {{.Status}}, text: {{.Message}}, headers: {{.Header}}}; /* {{.StatusText}} */
    document.title = "{{.Message}}" + '{{.StatusText}}' + `{{.Message}} ${ error.code / 2 }`;
  </script>
</head>
<body class="status-{{.Status}}" data-url="{{.Message}}" onload="report({{.Message}}, '{{.StatusText}}')">
  {{- /* what we say */ -}}
  {{if eq .Status 404}}
    <h1>There is nothing < here</h1>
  {{else if eq .Status 502 503}}
    <h1>{{.StatusText}}</h1>
  {{else}}
    <h1>{{printf "%d: %s" .Status .StatusText}}</h1>
  {{end}}
  <p title="{{.Message}}">{{.Message}}</p>
  {{with .Header.Get "X-Cf-RouterError"}}<code id={{.}}>{{.}}</code>{{else}}<code>none</code>{{end}}
  <ul>{{range $name, $values := .Header}}{{range $i, $value := $values}}
    <li>{{$name}}[{{$i}}]: {{$value}}</li>{{end}}{{else}}<li>no headers</li>{{end}}</ul>
  <a href="/help?code={{.Status}}&why={{.Message}}#{{.StatusText}}">help</a>
  <a href='{{.Message}}'>as it is</a> <a href=/x/{{.Message}}>there</a>
  <textarea>{{.Message}}</textarea>
  {{template "footer" .}}
</body>
</html>
{{define "footer"}}<hr>{{$length := len .Message}}{{if gt $length 10}}long{{else}}short{{end}} {{$length}}{{end}}
""",
    """{{block "head" .}}<title>{{.Status}}</title>{{end -}}
<meta http-equiv="refresh" content="5; url={{.Message}}">
<button onclick='f({{.Header.Values "Cache-Control"}}, {{.Header.Nope}}, "{{.Message}}")'
  {{if .Message}}disabled{{end}}>
<p style="color: {{.StatusText}}; background: url({{.Message}})">{{html .Message}} {{js .Message}} {{urlquery .Message}}
<script type="application/json">{"status": {{.Status}}, "message": {{.Message}}}</script>
<script type="text/template"><b>{{.Message}}</b></script>
""",
]

CONSTRUCTS: Final = Path(__file__).with_name("error_page_constructs.txt").read_text().rstrip("\n").split("\n\n")
"""One template each; the last ones nobody renders."""

MESSAGES: Final = [
    "Requested route ('a.example.com') does not exist.",
    "",
    "<b>\"x\" & 'y' + z`</script>\n\t\\ \u2028 {a:b} % = #?",
    "Grüße \U0001f600 \ufffe \x00 --",
    "javascript:alert(1)",
    "http://x/y z?a=b&c=%41%zz#f",
    "color",
    "\udcff\udcfe bad",
]

ACTIONS: Final = [
    "{{.Message}}",
    "{{.Status}}",
    "{{.Header}}",
    "{{.Message|html}}",
    "{{.Message|urlquery}}",
    "{{js .Message}}",
    '{{index .Header "Cache-Control"}}',
    "{{.Header.X}}",
]
FRAMES: Final = [
    "<p>%s</p>",
    '<a href="%s">x</a>',
    "<a href='%s'>",
    "<a href=%s>",
    "<script>%s</script>",
    "<script>var s='%s'; u=`%s`; f(%s)</script>",
    "<script>/*%s*/ //%s\n f(%s)</script>",
    "<style>%s</style>",
    '<style>a{b:url(%s);c:"%s"}</style>',
    '<p style="%s">',
    '<b onclick="%s">',
    "<title>%s</title>",
    "<p %s>",
    "<!--%s-->",
    '<meta content="%s">',
    "%s",
]
_TAG_PIECES: Final = (
    "<p> </p> <a_ > < <br/> </ <!-- --> <!DOCTYPE_html> <script> </script> <script_ </SCRIPT> <scr <style>"
)
_VALUE_PIECES: Final = (
    """</style> <title> </title> href= src=" title=' class=x_ onclick=" style=" data-url= =" _/ " ' `"""
)
_SCRIPT_PIECES: Final = (
    "type=text/plain / // /* */ url( ) = ( { } ${ \\ \\\\ _ \n a x1 return_ var_a= in_ + - ++ -- ; : ? # &"
)
_OTHER_PIECES: Final = "&quot; &#39; url= [ ] 1. . , é \u2028 #! expression @ !"
PIECES: Final = [
    word.replace("_", " ") for word in " ".join((_TAG_PIECES, _VALUE_PIECES, _SCRIPT_PIECES, _OTHER_PIECES)).split(" ")
]
