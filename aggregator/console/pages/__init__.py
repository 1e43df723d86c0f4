"""The console's pages: HTML for people. One file a page; each has a JSON twin in ``aggregator.console.api``."""
