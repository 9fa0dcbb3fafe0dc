// Renders templates with html/template for tests: one JSON object per line in, one out; bytes are base64.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"html/template"
	"net/http"
	"os"
)

type errorPage struct {
	Status     int
	StatusText string
	Message    string
	Header     http.Header
}

type question struct {
	Template   []byte
	Status     int
	StatusText []byte
	Message    []byte
	Header     map[string][][]byte
}

type answer struct {
	Page  []byte
	Error string
}

func render(asked question) answer {
	parsed, err := template.New("error.html").Parse(string(asked.Template))
	if err != nil {
		return answer{Error: err.Error()}
	}
	header := http.Header{}
	for name, values := range asked.Header {
		for _, value := range values {
			header[name] = append(header[name], string(value))
		}
	}
	data := &errorPage{asked.Status, string(asked.StatusText), string(asked.Message), header}
	var page bytes.Buffer
	if err := parsed.Execute(&page, data); err != nil {
		return answer{Error: err.Error()}
	}
	return answer{Page: page.Bytes()}
}

func main() {
	lines := bufio.NewReader(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var asked question
		if err := json.Unmarshal(line, &asked); err != nil {
			panic(err)
		}
		if err := out.Encode(render(asked)); err != nil {
			panic(err)
		}
	}
}
