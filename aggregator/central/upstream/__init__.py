"""Asking a language model behind an OpenAI-compatible endpoint where the strong model is not sure: docs/upstream.md.

Loads httpx only in `client.py`, which `opening.py` imports: a server without an upstream never does.
"""
