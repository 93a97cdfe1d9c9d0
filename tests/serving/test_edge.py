"""Who may ask: known host names, and no page of another site. The real service is asked in test_recommender.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from nightshift.settings import Settings
from serving.edge import Problem, check_site, host_names


def hosts(**values: str) -> frozenset[str]:
    return host_names(Settings(_env_file=None, **values))  # type: ignore[call-arg, arg-type]


def ask(*pairs: tuple[str, str], known: frozenset[str] | None = None) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in pairs]
    check_site(Headers(raw=raw), hosts() if known is None else known)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:3000", "LocalHost:1", "[::1]", "[::1]:3000"])
def test_this_machine_is_answered_under_its_names_on_any_port(host: str) -> None:
    ask(("host", host))
    ask(("host", host), ("origin", f"http://{host.lower()}"))  # the service's own page


def test_the_host_it_listens_on_and_further_names_are_answered_and_no_others() -> None:
    known = hosts(host="192.0.2.7", serving_hosts="Shop.example, recommender,::2,")
    for host in ("192.0.2.7:3000", "shop.example", "recommender:80", "[::2]:3000", "localhost"):
        ask(("host", host), known=known)
    for host in ("shop.example.evil.example", "example", "", "[]", "2"):
        with pytest.raises(Problem, match="NIGHTSHIFT_SERVING_HOSTS"):
            ask(("host", host), known=known)


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [("host", "evil.example:3000")],
        [("host", "127.0.0.1.evil.example")],
        [("host", "localhost.")],
        [("host", "localhost@evil.example")],
        [("host", "localhost:3000:x")],
        [("host", "localhost/evil")],
        [("host", "localhost"), ("host", "evil.example")],
    ],
    ids=str,
)
def test_a_host_name_that_somebody_else_points_here_is_refused(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(Problem, match="no such host here") as caught:
        ask(*pairs)
    assert caught.value.status == 403


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "", "http://127.0.0.1:3001", "http://localhost:3000", "127.0.0.1:3000"],
)
def test_a_page_of_another_site_is_refused(origin: str) -> None:
    with pytest.raises(Problem, match="cross-site request refused") as caught:
        ask(("host", "127.0.0.1:3000"), ("origin", origin))
    assert caught.value.status == 403


@given(st.text(st.characters(max_codepoint=255), max_size=30))
def test_whatever_the_host_is_it_is_one_of_the_known_or_refused(host: str) -> None:
    try:
        ask(("host", host))
    except Problem:
        return
    assert host.lower().startswith(("127.0.0.1", "localhost", "[::1]"))
