"""Pictures that several families' pages have."""

from __future__ import annotations

import warnings
from typing import Any

from matplotlib.figure import Figure

SHOWN = 14


def beeswarm(found: Any) -> Figure:
    """What drives a recommender: `found` is a `shap.Explanation` of users' scores for items, [pairs, players]."""
    import matplotlib.pyplot as plt
    import shap

    figure = plt.figure()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # ids and empty features have no value to colour by
        shap.plots.beeswarm(
            found, max_display=SHOWN, show=False, plot_size=(10, 6.5), group_remaining_features=True
        )
    axis = figure.axes[0]
    axis.set_title(
        "What drives the ranking: each dot is one user and item\n(right of 0: ranks the item higher)"
    )
    axis.set_xlabel("effect on the item's score, above other items' (SHAP value)")
    figure.tight_layout()
    plt.close(figure)
    return figure
