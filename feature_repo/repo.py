"""What `feast -c feature_repo apply` reads: the definitions over the partitions under NIGHTSHIFT_HOME."""

from __future__ import annotations

from feature_repo.services import definitions
from nightshift.partitions import features_place
from nightshift.settings import settings

everything = definitions(features_place(settings()))
user, item, topic, user_features, item_features, topic_features, recommender, forecaster = everything
