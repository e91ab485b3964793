"""The HTTP service. A folder per concern of a request, in the order in which a request meets them:
auth, limits, cache, routing, relay. `api` holds one module per resource; `app` wires everything."""
