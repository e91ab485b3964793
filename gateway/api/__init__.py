"""One module per API resource. The data path's three resources are in gateway.relay."""
