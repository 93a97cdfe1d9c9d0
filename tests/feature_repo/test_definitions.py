"""What Feast is told: exactly the contract, each definition once."""

from __future__ import annotations

from datetime import timedelta

import pytest
import yaml

from nightshift.contracts.features import ITEM_VIEW, SERVICES, TOPIC_VIEW, USER_VIEW, VIEWS, numeric
from nightshift.featurestore import REPO, import_feast


@pytest.fixture
def views(tmp_path):
    import_feast()
    from feature_repo.views import feature_views

    return feature_views(str(tmp_path / "features"))


def test_the_views_have_the_contracts_features_with_their_meanings(views) -> None:
    assert list(views) == [USER_VIEW, ITEM_VIEW, TOPIC_VIEW]
    for name, view in VIEWS.items():
        told = {field.name: field.description for field in views[name].features}
        assert told == {f.name: f.meaning for f in view.features}
        doubles = [f.name for f in views[name].features if str(f.dtype) == "Float64"]
        assert doubles == numeric(view.features)
        assert views[name].join_keys == [view.key]


def test_a_value_is_used_for_as_long_as_it_is_good_for(views) -> None:
    days = {name: view.ttl // timedelta(days=1) for name, view in views.items()}
    assert days == {USER_VIEW: 28, ITEM_VIEW: 28, TOPIC_VIEW: 60}


def test_the_sources_are_absolute_folders_of_partitions(views, tmp_path) -> None:
    for name, view in views.items():
        assert view.batch_source.path == str(tmp_path / "features" / name)
        assert view.batch_source.timestamp_field == "event_timestamp"


def test_each_seat_has_a_service_that_offers_every_feature_of_its_views(tmp_path) -> None:
    from feature_repo.services import definitions

    services = {service.name: service for service in definitions(str(tmp_path))[-len(SERVICES) :]}
    assert list(services) == list(SERVICES) == ["recommender", "forecaster"]
    for seat, names in SERVICES.items():
        offered = {(p.name, f.name) for p in services[seat].feature_view_projections for f in p.features}
        assert offered == {(name, f.name) for name in names for f in VIEWS[name].features}


def test_feasts_own_command_finds_each_definition_once(monkeypatch) -> None:
    from feast.repo_operations import parse_repo

    monkeypatch.chdir(REPO)
    monkeypatch.syspath_prepend(str(REPO))
    found = parse_repo(REPO)
    assert sorted(view.name for view in found.feature_views) == sorted(VIEWS)
    assert sorted(e.name for e in found.entities if not e.name.startswith("__")) == ["item", "topic", "user"]
    assert sorted(service.name for service in found.feature_services) == sorted(SERVICES)


def test_the_settings_name_no_place_but_the_home() -> None:
    config = yaml.safe_load((REPO / "feature_store.yaml").read_text())
    assert config["registry"]["path"].startswith("${NIGHTSHIFT_HOME}/")
    assert config["online_store"]["path"].startswith("${NIGHTSHIFT_HOME}/")
    assert config["offline_store"]["type"] == "duckdb"
    assert config["entity_key_serialization_version"] == 3
