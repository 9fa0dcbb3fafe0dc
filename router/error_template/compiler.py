"""From the tree to closures: every action is bound to the escapers of the place where it stands.

A template that is called from several places is compiled for each. One that calls itself is refused: an error page has
no use for it, and it is what keeps rendering from running away. Raises TemplateError with the line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from router.error_template import escapers, markup
from router.error_template.expressions import FIELDS, Expression, Expressions, Run, Scope, Step, nil
from router.error_template.functions import BY_HAND
from router.error_template.place import (
    ANY_PART,
    COMMENTS,
    CSS,
    CSS_DOUBLE,
    CSS_DOUBLE_URL,
    CSS_SINGLE,
    CSS_SINGLE_URL,
    CSS_URL,
    DIVISION,
    JS,
    JS_DOUBLE,
    JS_SINGLE,
    JS_TEMPLATE,
    META,
    META_URL,
    NAME,
    OUTSIDE,
    QUERY,
    RCDATA,
    START,
    TEXT,
    UNQUOTED,
    URL,
    VALUE,
    Misplaced,
    Place,
    joined,
    settled,
)
from router.error_template.scanner import TemplateError
from router.error_template.syntax import (
    Action,
    Body,
    Branch,
    Call,
    Function,
    Node,
    Pipe,
    Templates,
    Text,
)
from router.error_template.values import Header, RenderError, Strings, Value, kind_of, printed, truth

MAX_NODES: Final = 200_000
"""Of all templates, each counted for every place it is called from."""


class _Compiled:
    __slots__ = ("frame", "leads_to", "step")

    def __init__(self, step: Step, leads_to: Place, frame: int) -> None:
        self.step = step
        self.leads_to = leads_to
        self.frame = frame


def compiled(templates: Templates, where: str) -> Step:
    """The main template, to be called with a run whose ``variables`` are empty and the page. Raises TemplateError."""
    return _Compiler(templates, where).main()


class _Compiler:
    def __init__(self, templates: Templates, where: str) -> None:
        self._templates = templates
        self._where = where
        self._expressions = Expressions(where)
        self._done: dict[tuple[str, Place, bool], _Compiled] = {}
        self._under_way: list[str] = []
        self._nodes = 0

    def main(self) -> Step:
        main = self._template(self._templates.main, Place(), True)
        if main.leads_to.state != TEXT:
            raise TemplateError(self._where, 1, f"the template ends inside of {main.leads_to.state}")
        return _call(main, lambda _run, dot: dot)

    def _wrong(self, line: int, problem: object) -> TemplateError:
        return TemplateError(self._where, line, str(problem))

    # Bodies -----------------------------------------------------------------------------------------------------

    def _template(self, body: Body, place: Place, dot_is_page: bool) -> _Compiled:
        scope = Scope(dot_is_page)
        step, leads_to = self._body(body, place, scope)
        return _Compiled(step, leads_to, len(scope.frame))

    def _body(self, body: Body, place: Place, scope: Scope) -> tuple[Step, Place]:
        steps: list[Step] = []
        for node in body:
            self._nodes += 1
            if self._nodes > MAX_NODES:
                raise self._wrong(1, f"more than {MAX_NODES} parts, each counted once per place it is called from")
            step, place = self._node(node, place, scope)
            if step is not None:
                steps.append(step)
        return _in_order(steps), place

    def _node(self, node: Node, place: Place, scope: Scope) -> tuple[Step | None, Place]:
        match node:
            case Text():
                try:
                    place, sent = markup.after(place, node.text)
                except Misplaced as wrong:
                    raise self._wrong(node.line + node.text.count("\n", 0, wrong.at), wrong) from None
                return (_write(sent) if sent else None), place
            case Action():
                return self._action(node.pipe, place, scope)
            case Branch(word="range"):
                return self._range(node, place, scope)
            case Branch():
                return self._branch(node, place, scope)
            case Call():
                return self._call(node, place, scope)

    def _branch(self, node: Branch, place: Place, scope: Scope) -> tuple[Step, Place]:
        inner = scope.inner(scope.dot_is_page)
        condition = self._expressions.pipe(node.pipe, inner)
        is_with = node.word == "with"
        body_scope = inner.inner(self._expressions.is_page(node.pipe, inner) if is_with else scope.dot_is_page)
        body, one = self._body(node.body, place, body_scope)
        otherwise, other = self._body(node.otherwise, place, inner.inner(scope.dot_is_page))

        def choose(run: Run, dot: Value) -> None:
            run.step()
            value = condition(run, dot)
            if truth(value):
                body(run, value if is_with else dot)
            else:
                otherwise(run, dot)

        return choose, self._meet(one, other, node)

    def _meet(self, one: Place, other: Place, node: Branch) -> Place:
        try:
            return joined(one, other, node.word)
        except Misplaced as wrong:
            raise self._wrong(node.pipe.line, wrong) from None

    def _range(self, node: Branch, place: Place, scope: Scope) -> tuple[Step, Place]:
        inner = scope.inner(False)
        pipe = replace(node.pipe, variables=())
        series = self._expressions.pipe(pipe, scope.inner(scope.dot_is_page))
        names = node.pipe.variables
        slots = [inner.declare(name) if node.pipe.declares else inner.slots[name] for name in names]
        body, one = self._body(node.body, place, inner)
        if one != place:  # the second turn begins where the first one ends
            one = self._meet(one, self._body(node.body, one, inner.inner(False))[1], node)
        otherwise, other = self._body(node.otherwise, place, inner.inner(scope.dot_is_page))

        def repeat(run: Run, dot: Value) -> None:
            run.step()
            whole = series(run, dot)
            for slot in slots:  # what {{else}} finds in them
                run.variables[slot] = whole
            pairs = _pairs(whole)
            for key, value in pairs:
                run.step()
                for slot, item in zip(slots, (value,) if len(slots) == 1 else (key, value), strict=False):
                    run.variables[slot] = item
                body(run, value)
            if not pairs:
                otherwise(run, dot)

        return repeat, self._meet(one, other, node)

    def _call(self, node: Call, place: Place, scope: Scope) -> tuple[Step, Place]:
        body = self._templates.named.get(node.name)
        if body is None:
            names = ", ".join(f'"{name}"' for name in self._templates.named) or "none"
            raise self._wrong(node.line, f'template "{node.name}" is not defined here; defined are: {names}')
        if node.name in self._under_way:
            raise self._wrong(node.line, f'template "{node.name}" calls itself, which is not supported')
        argument = self._expressions.pipe(node.pipe, scope) if node.pipe is not None else nil
        key = (node.name, place, node.pipe is not None and self._expressions.is_page(node.pipe, scope))
        done = self._done.get(key)
        if done is None:
            self._under_way.append(node.name)
            done = self._done[key] = self._template(body, place, key[2])
            self._under_way.pop()
        return _call(done, argument), done.leads_to

    # Actions ----------------------------------------------------------------------------------------------------

    def _action(self, pipe: Pipe, place: Place, scope: Scope) -> tuple[Step, Place]:
        if pipe.variables:
            assign = self._expressions.pipe(pipe, scope)

            def silently(run: Run, dot: Value) -> None:
                run.step()
                assign(run, dot)

            return silently, place
        if len(pipe.commands) == 1 and self._expressions.is_page(pipe, scope):
            raise self._wrong(pipe.line, f"the whole of the data cannot be printed; there are {FIELDS}")
        place = settled(place)
        try:
            chain = escapers_of(place)
        except Misplaced as wrong:
            raise self._wrong(pipe.line, wrong) from None
        value, chain = self._ended_by_hand(pipe, place, chain, scope)
        first, rest = chain[0], chain[1:]

        def write(run: Run, dot: Value) -> None:
            run.step()
            text = first(value(run, dot))
            for escape in rest:
                text = escape(text)
            run.write(text)

        return write, replace(place, slash=DIVISION) if place.state == JS else place

    def _ended_by_hand(
        self, pipe: Pipe, place: Place, chain: Sequence[escapers.Escaper], scope: Scope
    ) -> tuple[Expression, list[Callable[..., str]]]:
        """The value of a pipe, and its escapers: html and urlquery at its end stand for those of their kind."""
        names = [command.words[0].name if isinstance(command.words[0], Function) else "" for command in pipe.commands]
        for command, name in zip(pipe.commands[:-1], names[:-1], strict=True):
            if name in BY_HAND:
                raise self._wrong(command.line, f"{name} may only stand at the end: what follows would undo it")
        name = names[-1]
        if name not in BY_HAND:
            return self._expressions.pipe(pipe, scope), _taking_values(chain)
        if name == "html" and place.state == VALUE and place.delimiter == UNQUOTED:
            raise self._wrong(
                pipe.line, "html is not enough in an attribute's value without quotes; remove it or quote the value"
            )
        last = pipe.commands[-1]
        if len(pipe.commands) > 1:
            if len(last.words) > 1:
                raise self._wrong(last.line, f"{name} takes nothing besides what it is given by the |")
            value = self._expressions.pipe(replace(pipe, commands=pipe.commands[:-1]), scope)
        else:
            words = (Function("print"), *last.words[1:])
            if len(words) == 1:
                raise self._wrong(last.line, f"{name} wants a value")
            value = self._expressions.pipe(replace(pipe, commands=(replace(last, words=words),)), scope)
        stands_for = _OF_ONE_KIND[name]
        if any(escape in stands_for for escape in chain):
            return value, _taking_values([BY_HAND[name] if escape in stands_for else escape for escape in chain])
        return value, _taking_values([BY_HAND[name], *chain])


_OF_ONE_KIND: Final = {
    "html": (escapers.html,),
    "urlquery": (escapers.url_encoded, escapers.url_normalized),
}


def escapers_of(place: Place) -> list[Callable[..., str]]:
    """What makes a value harmless in a place: all but the first take text. Raises Misplaced where nothing does."""
    state = place.state
    chain: list[Callable[..., str]] = []
    if state in (URL, CSS_DOUBLE, CSS_SINGLE, CSS_DOUBLE_URL, CSS_SINGLE_URL, CSS_URL):
        if place.url == ANY_PART:
            raise Misplaced("the branches before this action lead to different parts of a URL")
        if place.url == QUERY:
            chain.append(escapers.url_encoded)
        else:
            if place.url == START:
                chain.append(escapers.url_filter)
            chain.append(escapers.css_text if state in (CSS_DOUBLE, CSS_SINGLE) else escapers.url_normalized)
    elif state in _ESCAPERS:
        chain.append(_ESCAPERS[state])
    elif state not in (VALUE, META):
        raise Misplaced(f"an action inside of {state} is not supported")
    if place.delimiter == UNQUOTED:
        chain.append(escapers.html_unquoted)
    elif place.delimiter != OUTSIDE:
        chain.append(escapers.html)
    return chain


_ESCAPERS: Final[dict[str, Callable[..., str]]] = {
    TEXT: escapers.html,
    RCDATA: escapers.html,
    NAME: escapers.html_name,
    META_URL: escapers.url_filter,
    JS: escapers.js,
    JS_DOUBLE: escapers.js_text,
    JS_SINGLE: escapers.js_text,
    JS_TEMPLATE: escapers.js_template,
    CSS: escapers.css_value,
    **dict.fromkeys(COMMENTS, escapers.nothing),
}


def _taking_values(chain: Sequence[Callable[..., str]]) -> list[Callable[..., str]]:
    """The same, the first of them for any value."""
    first, *rest = chain
    if first is escapers.js:
        return list(chain)
    if first in BY_HAND.values():
        return [lambda value: first("<no value>" if value is None else printed((value,))), *rest]
    return [lambda value: first(escapers.text_of(value)), *rest]


def _write(text: str) -> Step:
    return lambda run, _dot: run.write(text)


def _in_order(steps: list[Step]) -> Step:
    if len(steps) == 1:
        return steps[0]

    def all_of_them(run: Run, dot: Value) -> None:
        for step in steps:
            step(run, dot)

    return all_of_them


def _call(template: _Compiled, argument: Expression) -> Step:
    def call(run: Run, dot: Value) -> None:
        run.step()
        value = argument(run, dot)
        outer = run.variables
        run.variables = [value, *[None] * (template.frame - 1)]
        template.step(run, value)
        run.variables = outer

    return call


def _pairs(value: Value) -> list[tuple[Value, Value]]:
    """What {{range}} goes through."""
    match value:
        case None:
            return []
        case Strings():
            return list(enumerate(value))
        case Header():
            return [(name, value[name]) for name in value.names()]
    raise RenderError(f"range cannot go through a value of type {kind_of(value)}")
