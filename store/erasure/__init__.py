"""Erases what is kept of a tenant, or of one of its users, and tells what stays and why (docs/operating.md)."""
