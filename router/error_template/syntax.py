"""From words to a tree: what an action says, and which actions enclose which. Knows no value, no function, no HTML."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from router.error_template import constants
from router.error_template.scanner import CLOSE, END, TEXT, TemplateError, Token, tokens

MAX_DEPTH: Final = 100
"""How deep actions may enclose others, and parentheses parentheses."""

T = TypeVar("T")
Constant = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Literal:
    value: Constant


@dataclass(frozen=True, slots=True)
class Dot:
    pass


@dataclass(frozen=True, slots=True)
class Variable:
    name: str


@dataclass(frozen=True, slots=True)
class Function:
    name: str


@dataclass(frozen=True, slots=True)
class Fields:
    """``of`` with the names behind it: ``.A.B``, ``$x.A``, ``(...).A``."""

    of: Operand
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """A first word and its arguments."""

    words: tuple[Operand, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Pipe:
    """Commands, each of which gets the value of the one before it as its last argument."""

    commands: tuple[Command, ...]
    line: int
    variables: tuple[str, ...] = ()
    """What it is assigned to."""
    declares: bool = False


Operand = Literal | Dot | Variable | Function | Fields | Pipe


@dataclass(frozen=True, slots=True)
class Text:
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Action:
    pipe: Pipe


@dataclass(frozen=True, slots=True)
class Branch:
    """``word`` is if, with or range."""

    word: str
    pipe: Pipe
    body: Body
    otherwise: Body


@dataclass(frozen=True, slots=True)
class Call:
    name: str
    pipe: Pipe | None
    line: int


Node = Text | Action | Branch | Call
Body = tuple[Node, ...]


@dataclass(slots=True)
class Templates:
    """What one file defines."""

    main: Body = ()
    named: dict[str, Body] = field(default_factory=dict)


_PARENTHESES: Final = "parentheses"
_CONTROLS: Final = "if, with, range, else, template, block, define, end"
_KEYWORDS: Final = frozenset(
    ("block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template", "with")
)


def parse(source: str, where: str) -> Templates:
    """The templates of ``source``, which errors call ``where``. Raises TemplateError."""
    return _Parser(tokens(source, where), where).templates()


class _Parser:
    def __init__(self, found: list[Token], where: str) -> None:
        self._tokens = found
        self._at = 0
        self._where = where
        self._depth = 0
        self._scopes: list[list[str]] = [["$"]]
        """Variables that can be seen: one list per template being read."""
        self._named: dict[str, Body] = {}

    def templates(self) -> Templates:
        main, end = self._body("", top=True)
        if end.kind != END:
            raise self._wrong(end, f"{{{{{end.text}}}}} without a beginning")
        return Templates(main, self._named)

    # Words ------------------------------------------------------------------------------------------------------

    def _next(self) -> Token:
        token = self._tokens[self._at]
        self._at += token.kind != END
        return token

    def _peek(self) -> Token:
        return self._tokens[self._at]

    def _wrong(self, token: Token, problem: str) -> TemplateError:
        return TemplateError(self._where, token.line, problem)

    def _constant(self, token: Token, of: Callable[[str], T]) -> T:
        try:
            return of(token.text)
        except constants.BadConstant as bad:
            raise self._wrong(token, str(bad)) from None

    def _close(self, what: str) -> None:
        token = self._next()
        if token.kind != CLOSE:
            raise self._wrong(token, f"unexpected {token.text or token.kind} in {what}")

    # Nodes ------------------------------------------------------------------------------------------------------

    def _body(self, inside: str, *, top: bool = False) -> tuple[Body, Token]:
        """Nodes up to an {{end}}, an {{else}} or the end of the file, and that word."""
        nodes: list[Node] = []
        while True:
            token = self._next()
            if token.kind == TEXT:
                nodes.append(Text(token.text, token.line))
            elif token.kind == END:
                if inside:
                    raise self._wrong(token, f"{inside} has no {{{{end}}}}")
                return tuple(nodes), token
            else:
                word = self._peek()
                if word.kind != "word" or word.text not in _KEYWORDS:
                    nodes.append(Action(self._pipe("command", CLOSE)))
                    continue
                self._next()
                if word.text in ("end", "else"):
                    if word.text == "end":
                        self._close("{{end}}")
                    return tuple(nodes), word
                self._depth += 1
                if self._depth > MAX_DEPTH:
                    raise self._wrong(word, f"nested deeper than {MAX_DEPTH} levels")
                nodes += self._control(word, top)
                self._depth -= 1

    def _control(self, word: Token, top: bool) -> Body:
        match word.text:
            case "if" | "with" | "range":
                return (self._branch(word),)
            case "template":
                name = self._name("{{template}}")
                if self._peek().kind == CLOSE:
                    self._next()
                    return (Call(name, None, word.line),)
                return (Call(name, self._pipe("{{template}}", CLOSE), word.line),)
            case "block":
                name = self._name("{{block}}")
                pipe = self._pipe("{{block}}", CLOSE)
                self._define(word, name)
                return (Call(name, pipe, word.line),)
            case "define" if top:
                name = self._name("{{define}}")
                self._close("{{define}}")
                self._define(word, name)
                return ()
            case "define":
                raise self._wrong(word, "{{define}} inside another action; put it at the top")
        raise self._wrong(
            word, f"{{{{{word.text}}}}} is not supported; there are if, with, range, template, block, define"
        )

    def _name(self, what: str) -> str:
        token = self._next()
        if token.kind != "string":
            raise self._wrong(token, f"{what} wants the name of a template in quotes")
        return self._constant(token, constants.text)

    def _define(self, word: Token, name: str) -> None:
        self._scopes.append(["$"])
        body, end = self._body(f'template "{name}"')
        if end.text != "end":
            raise self._wrong(end, f'unexpected {{{{else}}}} in template "{name}"')
        self._scopes.pop()
        if _is_blank(body) and name in self._named:
            return
        if not _is_blank(self._named.get(name, ())):
            raise self._wrong(word, f'template "{name}" is defined twice')
        self._named[name] = body

    def _branch(self, word: Token) -> Branch:
        seen = len(self._scopes[-1])
        pipe = self._pipe(word.text, CLOSE)
        inside = f"{{{{{word.text}}}}} of line {word.line}"
        seen_in_both = len(self._scopes[-1])
        body, end = self._body(inside)
        del self._scopes[-1][seen_in_both:]
        otherwise: Body = ()
        if end.text == "else":
            follows = self._peek()
            if follows.kind == "word" and follows.text == word.text and word.text != "range":
                self._next()
                self._depth += 1
                if self._depth > MAX_DEPTH:
                    raise self._wrong(word, f"more than {MAX_DEPTH} {{{{else {word.text}}}}}")
                otherwise = (self._branch(follows),)
                self._depth -= 1
            else:
                self._close("{{else}}")
                otherwise, end = self._body(inside)
                if end.text != "end":
                    raise self._wrong(end, f"a second {{{{else}}}} in {inside}")
        del self._scopes[-1][seen:]
        return Branch(word.text, pipe, body, otherwise)

    # Pipes ------------------------------------------------------------------------------------------------------

    def _pipe(self, inside: str, end: str) -> Pipe:
        line = self._peek().line
        names, declares = self._assigned(inside)
        commands = [self._command(inside, end)]
        while self._peek().text == "|":
            self._next()
            command = self._command(inside, end)
            if isinstance(command.words[0], Literal | Dot):
                raise TemplateError(self._where, command.line, "only functions and fields can follow a |")
            commands.append(command)
        self._next()
        return Pipe(tuple(commands), line, names, declares)

    def _assigned(self, inside: str) -> tuple[tuple[str, ...], bool]:
        """The variables before := or =, and whether it is :=."""
        start, names = self._at, []
        while self._peek().kind == "variable":
            names.append(self._next().text)
            sign = self._peek()
            if sign.kind == "declare" or sign.text == "=":
                self._next()
                if inside == _PARENTHESES:
                    raise self._wrong(sign, "a variable cannot be assigned in parentheses")
                if "$" in names:
                    raise self._wrong(sign, "$ stands for the template's data; assign to another name")
                if sign.text == "=":
                    for name in names:
                        self._see(name, sign)
                self._scopes[-1].extend(names)
                return tuple(names), sign.kind == "declare"
            if sign.text != "," or inside != "range" or len(names) == 2:
                break
            self._next()
        if len(names) > 1:
            raise self._wrong(self._peek(), "range can declare two variables: $i, $e :=")
        self._at = start
        return (), False

    def _command(self, inside: str, end: str) -> Command:
        line = self._peek().line
        words: list[Operand] = []
        while True:
            token = self._peek()
            if end in (token.kind, token.text) or token.text == "|":
                if not words:
                    raise self._wrong(token, f"a value is missing in {inside}")
                return Command(tuple(words), line)
            if words and not token.spaced:
                raise self._wrong(token, f"unexpected {token.text or token.kind} in {inside}")
            words.append(self._operand(inside))

    def _operand(self, inside: str) -> Operand:
        token = self._next()
        operand = self._term(token, inside)
        names: list[str] = []
        if token.kind == "field":
            names.append(token.text[1:])
        while self._peek().kind == "field" and not self._peek().spaced:
            names.append(self._next().text[1:])
        if not names:
            return operand
        if isinstance(operand, Literal) or token.kind == "dot":
            raise self._wrong(token, f"{token.text} has no fields")
        return Fields(operand, tuple(names))

    def _term(self, token: Token, inside: str) -> Operand:
        match token.kind:
            case "dot" | "field":
                return Dot()
            case "variable":
                self._see(token.text, token)
                return Variable(token.text)
            case "string":
                return Literal(self._constant(token, constants.text))
            case "char":
                return Literal(self._constant(token, constants.character))
            case "number":
                return Literal(self._constant(token, constants.number))
            case "word" if token.text in ("true", "false"):
                return Literal(token.text == "true")
            case "word" if token.text == "nil":
                return Literal(None)
            case "word" if token.text not in _KEYWORDS:
                return Function(token.text)
            case "symbol" if token.text == "(":
                self._depth += 1
                if self._depth > MAX_DEPTH:
                    raise self._wrong(token, f"nested deeper than {MAX_DEPTH} levels")
                pipe = self._pipe(_PARENTHESES, ")")
                self._depth -= 1
                return pipe
        raise self._wrong(token, f"unexpected {token.text or token.kind} in {inside}")

    def _see(self, name: str, token: Token) -> None:
        if name not in self._scopes[-1]:
            raise self._wrong(token, f"undefined variable {name}")


def _is_blank(body: Body) -> bool:
    return all(isinstance(node, Text) and not node.text.strip() for node in body)
