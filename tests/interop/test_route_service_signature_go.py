"""Signatures of route services against a program in Go, which makes and reads them with the packages Gorouter uses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable

import pytest

from router.route_services.signature import InvalidSignature, Signer

PROGRAM = r"""
// Reads one JSON object per line, {"do": "sign" | "read", ...}, and answers each with one line.
package main

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"os"
	"time"
)

type contents struct {
	URL  string    `json:"forwarded_url"`
	Time time.Time `json:"requested_time"`
}

type metadata struct {
	Nonce []byte `json:"nonce"`
}

type line struct {
	Do        string `json:"do"`
	Secret    string `json:"secret"`
	URL       string `json:"url"`
	At        int64  `json:"at"`
	Signature string `json:"signature"`
	Metadata  string `json:"metadata"`
	Error     string `json:"error"`
}

// key is PBKDF2 (RFC 8018 section 5.2) with HMAC-SHA-256 and no salt, whose first block is long enough.
func key(secret string) []byte {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte{0, 0, 0, 1})
	block := mac.Sum(nil)
	sum := append([]byte{}, block...)
	for round := 1; round < 100001; round++ {
		mac.Reset()
		mac.Write(block)
		block = mac.Sum(nil)
		for i := range sum {
			sum[i] ^= block[i]
		}
	}
	return sum[:16]
}

func sealer(secret string) cipher.AEAD {
	block, err := aes.NewCipher(key(secret))
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return gcm
}

func sign(asked line) line {
	gcm := sealer(asked.Secret)
	nonce := make([]byte, gcm.NonceSize())
	rand.Read(nonce)
	when := time.Unix(0, asked.At).In(time.FixedZone("", 5400))
	plain, _ := json.Marshal(contents{asked.URL, when})
	told, _ := json.Marshal(metadata{nonce})
	return line{
		Signature: base64.URLEncoding.EncodeToString(gcm.Seal(nil, nonce, plain, []byte{})),
		Metadata:  base64.URLEncoding.EncodeToString(told),
	}
}

func read(asked line) line {
	told, err := base64.URLEncoding.DecodeString(asked.Metadata)
	if err != nil {
		return line{Error: err.Error()}
	}
	var from metadata
	if err := json.Unmarshal(told, &from); err != nil {
		return line{Error: err.Error()}
	}
	sealed, err := base64.URLEncoding.DecodeString(asked.Signature)
	if err != nil {
		return line{Error: err.Error()}
	}
	plain, err := sealer(asked.Secret).Open(nil, from.Nonce, sealed, []byte{})
	if err != nil {
		return line{Error: err.Error()}
	}
	var found contents
	if err := json.Unmarshal(plain, &found); err != nil {
		return line{Error: err.Error()}
	}
	return line{URL: found.URL, At: found.Time.UnixNano()}
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var asked line
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			panic(err)
		}
		if asked.Do == "sign" {
			out.Encode(sign(asked))
		} else {
			out.Encode(read(asked))
		}
	}
}
"""

AT = 1_700_000_000_123_456_700
URLS = (
    "https://app.example.com/",
    "http://app.example.com/a%20b/c?x=1&y=<z>&v=%C3%A9",
    'https://app.example.com/"quoted"\\and/é/\u2028',
)
Ask = Callable[..., dict[str, str]]

_ALONE = {**os.environ, "GOFLAGS": "-mod=mod", "GOPROXY": "off", "GOTOOLCHAIN": "local"}
"""Nothing is fetched: the program needs the standard library only."""


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Asks the program, which is built once."""
    if shutil.which("go") is None:
        pytest.skip("go is not installed, and Go's side of the signatures needs it")
    folder = tmp_path_factory.mktemp("signer")
    (folder / "main.go").write_text(PROGRAM)
    (folder / "go.mod").write_text("module signer\n\ngo 1.21\n")
    program = folder / "signer"
    subprocess.run(["go", "build", "-o", program, "."], cwd=folder, check=True, timeout=180, env=_ALONE)

    def ask(**line: object) -> dict[str, str]:
        text = json.dumps(line).encode() + b"\n"
        done = subprocess.run([program], input=text, check=True, capture_output=True, timeout=30)
        answer: dict[str, str] = json.loads(done.stdout)
        return answer

    return ask


@pytest.mark.parametrize("url", URLS)
def test_go_reads_what_we_sign(go: Ask, url: str) -> None:
    signature, metadata = Signer("s3cret/ä", clock=lambda: AT).sign(url)
    answer = go(do="read", secret="s3cret/ä", signature=signature.decode(), metadata=metadata.decode())
    assert (answer["url"], answer["at"], answer["error"]) == (url, AT, "")


@pytest.mark.parametrize("url", URLS)
def test_we_read_what_go_signs(go: Ask, url: str) -> None:
    answer = go(do="sign", secret="s3cret/ä", url=url, at=AT)
    values = answer["signature"].encode(), answer["metadata"].encode()
    for signer in (Signer("s3cret/ä", clock=lambda: AT), Signer("new", "s3cret/ä", clock=lambda: AT)):
        assert signer.read(*values, 60) == (url, AT)


def test_neither_reads_what_another_secret_signed(go: Ask) -> None:
    signature, metadata = Signer("ours").sign(URLS[0])
    answer = go(do="read", secret="theirs", signature=signature.decode(), metadata=metadata.decode())
    assert answer["error"] == "cipher: message authentication failed"
    theirs = go(do="sign", secret="theirs", url=URLS[0], at=AT)
    with pytest.raises(InvalidSignature, match=f"^{answer['error']}$"):
        Signer("ours").read(theirs["signature"].encode(), theirs["metadata"].encode(), 1e9)
