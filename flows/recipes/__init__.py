"""Recipes: one file a data set or purpose, one function a run. Nothing here imports Prefect, Ray, MLflow or torch."""
