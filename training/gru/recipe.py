"""The GRU family: `training/forecasting/` does the work, see its README."""

from training.forecasting.recipe import ForecastRecipe

RECIPE = ForecastRecipe("gru")
