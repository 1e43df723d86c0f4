"""The console's JSON, under ``/api/v1``: what the pages show, for programs. One file a subject."""
