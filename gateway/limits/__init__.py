"""How much a key and its tenant may use: rates, concurrency and budgets, exact over any number of gateways.

**What a token bucket promises.** A bucket for `n` a minute holds `n` when it is full, and refills evenly, `n / 60` a
second. Each request takes what it costs, and is refused where the bucket holds less. So in *every* window of `w`
seconds, wherever it begins, at most `n + n / 60 · w` gets through: a full bucket at once, and what flows in meanwhile.
After a minute of silence a minute's worth may come at once; over hours no more than `n` a minute does. (RFC 2697, "A
Single Rate Three Color Marker", has the idea: `n` is its committed burst size, `n / 60` its information rate.)

**Busy keys** have requests and tokens taken ahead of need, by each gateway for itself, so that requests need not wait
for Redis (`permits.py`). Their buckets hold a little less than `n`, so that the promise stays the same.

**For tokens** the cost is only known at the end. A request reserves an estimate, and what it did not use goes back. The
bound holds for the tokens that requests really used, each counted when it was admitted: nothing goes back that the
bucket would by now have spilled for being full, and nothing of a request that ran for over two minutes. A request that
uses more than its estimate leaves the bucket in debt by the difference, which delays those that follow.

**Concurrency** is a lease for each request that an engine is answering. Gateways renew theirs, so that the leases of
one that was killed end by themselves.

**Budgets** of a day and a month (the calendar's, in UTC) are charged with the estimate at once and corrected by usage,
so that they are never exceeded by more than an estimate was too low. A gateway that is killed leaves the estimates of
its requests charged. Usage is counted from when a budget is set, and kept in Redis alone.
"""
