"""Enrollment and release keys on another machine: requests that the server exports, and replies that it imports."""
