"""What crosses a process boundary: wire types, errors, leases, jobs, model cards and settings. No I/O."""
