"""The LightGBM family, a baseline that may win the seat: `training/forecasting/` does the work, see its README."""

from training.forecasting.recipe import ForecastRecipe

RECIPE = ForecastRecipe("lightgbm")
