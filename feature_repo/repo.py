"""What `feast -c feature_repo apply` reads: the definitions over the partitions under NIGHTSHIFT_HOME."""

from __future__ import annotations

from feature_repo.services import definitions
from nightshift.settings import settings

user, item, user_features, item_features, recommender = definitions(settings().features_dir)
