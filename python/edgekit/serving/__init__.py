"""Networks over a connection: the protocol of docs/serving.md, a client, and a server with TLS."""
