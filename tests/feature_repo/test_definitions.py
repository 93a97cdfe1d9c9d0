"""What Feast is told: exactly the contract, each definition once."""

from __future__ import annotations

from datetime import timedelta

import pytest
import yaml

from nightshift.contracts.features import ITEM_FEATURES, ITEM_VIEW, SERVICE, USER_FEATURES, USER_VIEW, numeric
from nightshift.featurestore import REPO


@pytest.fixture
def views(tmp_path):
    from feature_repo.views import feature_views

    return {view.name: view for view in feature_views(tmp_path / "features")}


def test_the_views_have_the_contracts_features_with_their_meanings(views) -> None:
    for name, features in ((USER_VIEW, USER_FEATURES), (ITEM_VIEW, ITEM_FEATURES)):
        told = {field.name: field.description for field in views[name].features}
        assert told == {f.name: f.meaning for f in features}
        doubles = [f.name for f in views[name].features if str(f.dtype) == "Float64"]
        assert doubles == numeric(features)


def test_a_value_is_used_for_at_most_one_window(views) -> None:
    assert {view.ttl for view in views.values()} == {timedelta(days=28)}


def test_the_sources_are_absolute_folders_of_partitions(views, tmp_path) -> None:
    for name, view in views.items():
        assert view.batch_source.path == str(tmp_path / "features" / name)
        assert view.batch_source.timestamp_field == "event_timestamp"


def test_the_service_offers_every_feature(tmp_path) -> None:
    from feature_repo.services import definitions

    service = definitions(tmp_path)[-1]
    offered = {(p.name, f.name) for p in service.feature_view_projections for f in p.features}
    assert service.name == SERVICE
    assert offered == {(USER_VIEW, f.name) for f in USER_FEATURES} | {
        (ITEM_VIEW, f.name) for f in ITEM_FEATURES
    }


def test_feasts_own_command_finds_each_definition_once(monkeypatch) -> None:
    from feast.repo_operations import parse_repo

    monkeypatch.chdir(REPO)
    monkeypatch.syspath_prepend(str(REPO))
    found = parse_repo(REPO)
    assert sorted(view.name for view in found.feature_views) == [ITEM_VIEW, USER_VIEW]
    assert sorted(e.name for e in found.entities if not e.name.startswith("__")) == ["item", "user"]
    assert [service.name for service in found.feature_services] == [SERVICE]


def test_the_settings_name_no_place_but_the_home() -> None:
    config = yaml.safe_load((REPO / "feature_store.yaml").read_text())
    assert config["registry"]["path"].startswith("${NIGHTSHIFT_HOME}/")
    assert config["online_store"]["path"].startswith("${NIGHTSHIFT_HOME}/")
    assert config["offline_store"]["type"] == "duckdb"
    assert config["entity_key_serialization_version"] == 3
