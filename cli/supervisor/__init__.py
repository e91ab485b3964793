"""Runs the services of a stack on this machine as its children: starts, checks, restarts and stops them."""
