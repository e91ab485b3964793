"""Capture: copies of answers for those who opted in, redacted and written by a process of their own.

`taking` (in the gateway) → `feed` (a pipe) → `writing` (the process) → SQL. docs/decisions/014-capture.md says why.
"""
