"""Durable state: SQL tables and repositories, Redis names and scripts, artifacts, and the job queue.

Everything that speaks SQL or fsspec here is synchronous. The gateway calls it in threads, and only off the data path
(docs/decisions/003-synchronous-store.md).
"""
