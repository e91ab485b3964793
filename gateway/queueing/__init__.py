"""Who is next when the engines are full, and how long a request waits at most."""
