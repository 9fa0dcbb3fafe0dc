"""http_rewrite (gorouter reference 4.2): what leaves a response, what it gets, and what rules cannot reach."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.config_file import ConfigError
from router.config.settings import HeaderToAdd, HeaderToRemove, HttpRewrite, RewriteResponses, Settings
from router.config.settings_rules import check
from router.heads.rewriting import Rewriting, problems
from router.http1.fields import field_lines

NAMES = ("Server", "x-one", "X-Two", "Content-Length", "transfer-encoding", "Date", "X-Vcap-Request-Id", "Set-Cookie")

additions = st.lists(st.builds(HeaderToAdd, name=st.sampled_from(NAMES), value=st.sampled_from(("a", "b"))), max_size=4)
removals = st.lists(st.builds(HeaderToRemove, name=st.sampled_from(NAMES)), max_size=4)
fields = st.lists(
    st.builds(lambda name, value: f"{name}: {value}\r\n", st.sampled_from(NAMES), st.sampled_from(("0", "1"))),
    max_size=6,
)


def rewriting(*, add: tuple[tuple[str, str], ...] = (), remove: tuple[str, ...] = ()) -> Rewriting:
    return Rewriting(
        HttpRewrite(
            responses=RewriteResponses(
                add_headers_if_not_present=tuple(HeaderToAdd(*pair) for pair in add),
                remove_headers=tuple(HeaderToRemove(name) for name in remove),
            )
        )
    )


def applied(made: Rewriting, text: bytes) -> bytes:
    return b"".join(line.raw for line in made.apply(field_lines(text)))


def test_without_rules_only_the_signature_of_route_services_leaves() -> None:
    text = b"Server: a\r\nX-CF-Proxy-Signature: secret\r\nx-one: 1\r\n"
    assert applied(rewriting(), text) == b"Server: a\r\nx-one: 1\r\n"
    assert rewriting().applied(b"x-one: 1\r\n") == b"x-one: 1\r\n"


def test_what_is_removed_leaves_with_all_its_lines() -> None:
    assert applied(rewriting(remove=("SERVER", "x-one")), b"Server: a\r\nX-Two: 2\r\nserver: b\r\n") == b"X-Two: 2\r\n"


def test_what_is_added_is_added_only_if_there_is_none_not_even_an_empty_one() -> None:
    made = rewriting(add=(("x-frame-options", "DENY"),))
    assert applied(made, b"") == b"X-Frame-Options: DENY\r\n"
    assert applied(made, b"X-FRAME-OPTIONS:\r\n") == b"X-FRAME-OPTIONS:\r\n"


def test_values_of_one_name_are_added_together_or_not_at_all() -> None:
    made = rewriting(add=(("Link", "<a>"), ("link", "<b>")))
    assert applied(made, b"") == b"Link: <a>\r\nLink: <b>\r\n"
    assert applied(made, b"Link: <c>\r\n") == b"Link: <c>\r\n"


def test_one_rule_of_each_kind_replaces_a_field() -> None:
    made = rewriting(remove=("Server",), add=(("Server", "ours"),))
    assert applied(made, b"Server: theirs\r\n") == b"Server: ours\r\n"


@pytest.mark.parametrize("value", ["max-age=1\n", " max-age=1 ", "max-age=1\r\n"])
def test_a_value_is_one_line(value: str) -> None:
    assert applied(rewriting(add=(("X-One", value),)), b"") == b"X-One: max-age=1\r\n"


def test_the_request_id_can_be_hidden() -> None:
    assert rewriting(remove=("x-vcap-request-id",)).hides_request_id
    assert not rewriting().hides_request_id


def test_names_and_values_that_no_response_can_have_are_told() -> None:
    add = (HeaderToAdd("X-Good", "a\n"), HeaderToAdd("X Bad", "a"), HeaderToAdd("", "a"), HeaderToAdd("X-Nul", "a\0b"))
    made = HttpRewrite(RewriteResponses(add, (HeaderToRemove("Server"), HeaderToRemove("Server:"))))
    assert [problem.partition(" ")[0] for problem in problems(made)] == [
        "http_rewrite.responses.add_headers_if_not_present[1].name:",
        "http_rewrite.responses.add_headers_if_not_present[2].name:",
        "http_rewrite.responses.remove_headers[1].name:",
        "http_rewrite.responses.add_headers_if_not_present[3].value:",
    ]
    with pytest.raises(ConfigError, match="is no name of a header"):
        check(Settings(http_rewrite=made))


@given(additions, removals, fields)
def test_framing_is_never_touched_and_order_is_kept(
    add: list[HeaderToAdd], remove: list[HeaderToRemove], given: list[str]
) -> None:
    made = Rewriting(HttpRewrite(RewriteResponses(tuple(add), tuple(remove))))
    before = field_lines("".join(given).encode())
    after = made.apply(list(before))
    framing = (b"content-length", b"transfer-encoding")
    assert [line for line in after if line.name in framing] == [line for line in before if line.name in framing]
    kept = [line for line in after if line in before]
    assert kept == [line for line in before if line in kept]
    gone = {rule.name.lower().encode() for rule in remove} - set(framing)
    wanted = {rule.name.lower().encode() for rule in add} - {*framing, b"date", b"x-vcap-request-id"}
    assert {line.name for line in after} == ({line.name for line in before} - gone) | wanted
