"""The command line, and the supervisor that runs a whole stack on one machine."""
