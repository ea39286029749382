"""The MLflow door: runs, model versions, promotion, and getting a model back."""
