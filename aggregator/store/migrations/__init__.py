"""The schema's history, one file a step. Run by ``aggregator.store.engine`` whenever a database is opened."""
