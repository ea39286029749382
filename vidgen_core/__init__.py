"""The library: families, codecs, training, evaluation, registry. Knows no orchestrator."""
