"""Which models exist, which engines are alive, and which of them takes a request."""
