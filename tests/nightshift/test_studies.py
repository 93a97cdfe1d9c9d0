from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from nightshift import studies
from nightshift.settings import Settings
from nightshift.studies import Chosen, Proposal, choose, state, tag
from nightshift.versions import Version

NIGHT = date(2026, 10, 1)
WIDE = Proposal(
    family="ncf",
    seat="recommender",
    hyper={"factors": 64},
    until=NIGHT - timedelta(days=2),
    metric="val_ndcg_at_100",
    value=0.22,
    before=0.21,
    trials=12,
)


def version(number: int, **tags: str) -> Version:
    told = {"family": "ncf", **tags}
    return Version("recommender", number, "run", datetime(2026, 10, 1, tzinfo=UTC), told)


def chosen(
    proposal: Proposal | None = None, champion: Version | None = None, again: Version | None = None
) -> Chosen:
    return choose(proposal, champion, again, family="ncf", night=NIGHT, train_end=NIGHT - timedelta(days=1))


def test_a_proposal_is_tried_on_one_night_and_again_only_on_that_night() -> None:
    first = chosen(WIDE)
    assert first.hyper == {"factors": 64} and first.proposal == replace(WIDE, night=NIGHT)
    assert chosen(first.proposal) == first  # the night was killed and is trained again
    spent = replace(WIDE, night=NIGHT - timedelta(days=1), version=7)
    assert chosen(spent) == Chosen()


def test_a_study_that_looked_at_a_day_of_tonights_exam_waits() -> None:
    assert chosen(replace(WIDE, until=NIGHT)) == Chosen()


def test_the_champions_settings_are_those_of_its_family_and_of_no_other() -> None:
    champion = version(3, hyper=tag({"factors": 16}))
    assert chosen(champion=champion) == Chosen({"factors": 16})
    assert chosen(champion=version(3)) == Chosen()
    assert chosen(champion=replace(champion, tags={**champion.tags, "family": "item_knn"})) == Chosen()
    assert chosen(WIDE, champion).hyper == {"factors": 64}


def test_a_night_trained_again_has_the_settings_that_it_had() -> None:
    without, champion = version(5), version(3, hyper=tag({"factors": 16}))
    assert chosen(WIDE, champion, without) == Chosen()  # a study that ended since changes nothing
    tried = replace(WIDE, night=NIGHT, version=5)
    with_it = version(5, hyper=tag(WIDE.hyper))
    assert chosen(tried, champion, with_it) == Chosen(WIDE.hyper, tried)


def test_the_recipes_own_settings_have_no_tag() -> None:
    assert tag({}) == "" and tag({"b": 1, "a": 2}) == '{"a": 2, "b": 1}'


def test_a_proposal_is_kept_as_it_is(stored_home: Settings) -> None:
    config = stored_home
    assert studies.read(config, "ncf") is None and studies.proposals(config) == []
    for one in (WIDE, replace(WIDE, night=NIGHT, version=4)):
        studies.write(config, one)
        assert studies.read(config, "ncf") == one and studies.proposals(config) == [one]


@pytest.mark.parametrize(
    ("night", "tried", "told"),
    [
        (None, None, "the next night tries it"),
        (NIGHT, None, "being tried on night 2026-10-01"),
        (NIGHT, version(4), "the gate has not decided"),
        (NIGHT, version(4, verdict="keep"), "not promoted (verdict: keep), so it is spent"),
        (NIGHT, version(4, verdict="promote", in_production_since="2026-10-01"), "and promoted"),
    ],
)
def test_what_became_of_it_is_said_in_words(night: date | None, tried: Version | None, told: str) -> None:
    assert told in state(replace(WIDE, night=night), tried)
