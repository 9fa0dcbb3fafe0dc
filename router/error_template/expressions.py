"""What an action computes, as closures over a run and its dot. Raises TemplateError for what is not supported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from router.error_template.functions import (
    FUNCTIONS,
    HEADER_METHODS,
    LOGICAL,
    PAGE_FIELDS,
    UNSUPPORTED_METHODS,
    field,
)
from router.error_template.scanner import TemplateError
from router.error_template.syntax import Command, Dot, Fields, Function, Literal, Operand, Pipe, Variable
from router.error_template.values import RenderError, Value, check_format, truth

MAX_OUTPUT: Final = 2 * 1024 * 1024
"""Characters of a page."""
MAX_STEPS: Final = 50_000
"""Actions and turns of loops for one page."""


class Run:
    """One rendering."""

    __slots__ = ("_left", "_steps", "out", "variables")

    def __init__(self) -> None:
        self.out: list[str] = []
        self.variables: list[Value] = []
        """Of the template under way, by slot."""
        self._left = MAX_OUTPUT
        self._steps = MAX_STEPS

    def write(self, text: str) -> None:
        self._left -= len(text)
        if self._left < 0:
            raise RenderError(f"the page is longer than {MAX_OUTPUT} characters")
        self.out.append(text)

    def step(self) -> None:
        self._steps -= 1
        if self._steps < 0:
            raise RenderError(f"the page takes more than {MAX_STEPS} steps")


Expression = Callable[[Run, Value], Value]
"""Of the run and dot."""
Step = Callable[[Run, Value], None]


def nil(_run: Run, _dot: Value) -> Value:
    return None


class Scope:
    """What is known of names while a body is compiled."""

    __slots__ = ("dollar_is_page", "dot_is_page", "frame", "slots")

    def __init__(self, dot_is_page: bool) -> None:
        """Of a whole template: its dot is what it knows as ``$`` throughout."""
        self.dot_is_page = self.dollar_is_page = dot_is_page
        self.slots = {"$": 0}
        self.frame = ["$"]
        """The variables of the whole template: one slot each."""

    def inner(self, dot_is_page: bool) -> Scope:
        """For a body within it."""
        inner = Scope(self.dollar_is_page)
        inner.dot_is_page = dot_is_page
        inner.slots = dict(self.slots)
        inner.frame = self.frame
        return inner

    def declare(self, name: str) -> int:
        self.slots[name] = len(self.frame)
        self.frame.append(name)
        return self.slots[name]


FIELDS: Final = ", ".join(f".{name}" for name in PAGE_FIELDS)


class Expressions:
    """Makes closures of pipes."""

    def __init__(self, where: str) -> None:
        self._where = where

    def _wrong(self, line: int, problem: object) -> TemplateError:
        return TemplateError(self._where, line, str(problem))

    def is_page(self, pipe: Pipe, scope: Scope) -> bool:
        """Whether the value is certainly the page."""
        words = pipe.commands[0].words
        return len(pipe.commands) == 1 and len(words) == 1 and self._names_page(words[0], scope)

    def _names_page(self, operand: Operand, scope: Scope) -> bool:
        if isinstance(operand, Pipe):
            return self.is_page(operand, scope)
        if isinstance(operand, Variable):
            return operand.name == "$" and scope.dollar_is_page
        return isinstance(operand, Dot) and scope.dot_is_page

    def pipe(self, pipe: Pipe, scope: Scope) -> Expression:
        expression: Expression | None = None
        for command in pipe.commands:
            expression = self._command(command, expression, scope)
        assert expression is not None
        value = expression
        if not pipe.variables:
            return value
        (name,) = pipe.variables
        slot = scope.declare(name) if pipe.declares else scope.slots[name]

        def assign(run: Run, dot: Value) -> Value:
            result = run.variables[slot] = value(run, dot)
            return result

        return assign

    def _command(self, command: Command, final: Expression | None, scope: Scope) -> Expression:
        first, *words = command.words
        if isinstance(first, Literal) and first.value is None:
            raise self._wrong(command.line, "nil is no command")
        given = [self._operand(word, command.line, scope) for word in words]
        if final is not None:
            given.append(final)
        if isinstance(first, Function):
            return self._function(first.name, words, given, command.line)
        if isinstance(first, Fields):
            return self._fields(first, given, command.line, scope)
        if given:
            raise self._wrong(command.line, "arguments for something that is no function")
        return self._operand(first, command.line, scope)

    def _operand(self, operand: Operand, line: int, scope: Scope) -> Expression:
        match operand:
            case Literal():
                value = operand.value
                return lambda _run, _dot: value
            case Dot():
                return lambda _run, dot: dot
            case Variable():
                slot = scope.slots[operand.name]
                return lambda run, _dot: run.variables[slot]
            case Function():
                return self._function(operand.name, [], [], line)
            case Fields():
                return self._fields(operand, [], line, scope)
            case Pipe():
                return self.pipe(operand, scope)

    def _function(self, name: str, words: list[Operand], given: list[Expression], line: int) -> Expression:
        if name in LOGICAL:
            if not given:
                raise self._wrong(line, f"{name} wants a value")
            return _logical(given, LOGICAL[name])
        function = FUNCTIONS.get(name)
        if function is None:
            known = ", ".join(sorted((*FUNCTIONS, *LOGICAL)))
            raise self._wrong(line, f"function {name} is not supported; there are {known}")
        call, least, most = function
        if len(given) < least or (most is not None and len(given) > most):
            wanted = f"{least}" if least == most else f"at least {least}"
            raise self._wrong(line, f"{name} has {len(given)} arguments and wants {wanted}")
        if name == "printf" and words and isinstance(words[0], Literal) and isinstance(words[0].value, str):
            try:
                check_format(words[0].value)
            except RenderError as wrong:
                raise self._wrong(line, wrong) from None
        return lambda run, dot: call([argument(run, dot) for argument in given])

    def _fields(self, fields: Fields, given: list[Expression], line: int, scope: Scope) -> Expression:
        of = self._operand(fields.of, line, scope)
        *path, last = fields.names
        if self._names_page(fields.of, scope):
            self._check_fields(fields.names, len(given), line)

        def get(run: Run, dot: Value) -> Value:
            value = of(run, dot)
            for name in path:
                value = field(value, name, ())
            return field(value, last, [argument(run, dot) for argument in given])

        return get

    def _check_fields(self, names: tuple[str, ...], arguments: int, line: int) -> None:
        """What can be said of the page's fields before there is a page."""
        path = "." + ".".join(names)
        if names[0] not in PAGE_FIELDS:
            raise self._wrong(line, f"there is no {path}; there are {FIELDS}")
        if names[0] != "Header" or len(names) == 1:
            if len(names) > 1 or arguments:
                raise self._wrong(line, f".{names[0]} has no fields and takes no arguments, as {path} wants")
        elif names[1] in UNSUPPORTED_METHODS:
            raise self._wrong(line, f"{path} is not supported; there are .Header.Get and .Header.Values")
        elif len(names) > 2 or arguments != (names[1] in HEADER_METHODS):
            raise self._wrong(
                line, f'{path} is not used right; it is written .Header.Get "X", .Header.Values "X", or .Header.X'
            )


def _logical(given: list[Expression], decided: bool) -> Expression:
    def decide(run: Run, dot: Value) -> Value:
        value: Value = None
        for argument in given:
            value = argument(run, dot)
            if truth(value) == decided:
                break
        return value

    return decide
